// Draws each panel of a dashboard with what Prometheus answered, and writes beside it what went wrong.
//
// window.PANELS is put there by test_drawn.py: the panels of the JSON, and for each of their queries the
// series with times and values.

import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  createTheme,
  dateTime,
  FieldType,
  getDisplayProcessor,
  getValueFormats,
  LoadingState,
  renderMarkdown,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  PanelChrome,
  Table,
  ThemeContext,
  TimeSeries,
} from '@grafana/ui';

const theme = createTheme({ colors: { mode: 'light' } });
const CELL = 24;

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((one: any) => ({
    id: one.id,
    name: one.name,
    transformation: one,
    editor: () => null,
  }))
);

const units = new Set(
  getValueFormats().flatMap((group: any) => group.submenu.map((one: any) => one.value))
);

function checkUnit(unit: string) {
  if (!units.has(unit) && !/^(suffix|prefix|si|time|count|currency|bool):/.test(unit)) {
    throw new Error(`Grafana has no unit ${unit}`);
  }
}

function legend(format: string, labels: Record<string, string>) {
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? `{{${name}}}`);
}

function configured(frame: any, panel: any, seriesIndex = 0) {
  for (const field of frame.fields) {
    if (field.type !== FieldType.time) {
      field.config = { ...panel.fieldConfig.defaults, ...field.config };
      for (const override of panel.fieldConfig.overrides) {
        if (override.matcher.id === 'byName' && override.matcher.options === shownName(field)) {
          for (const property of override.properties) {
            field.config[property.id] = property.value;
          }
        }
      }
      checkUnit(field.config.unit);
    }
    field.state = { ...field.state, seriesIndex };
    field.display = getDisplayProcessor({ field, theme });
  }
  return frame;
}

function shownName(field: any) {
  return field.config?.displayNameFromDS ?? field.config?.displayName ?? field.name;
}

function lineFrames(panel: any, answers: any[]) {
  let seriesIndex = 0;
  return answers.flatMap((answer, place) =>
    answer.map((one: any) =>
      configured(
        toDataFrame({
          refId: panel.targets[place].refId,
          fields: [
            { name: 'Time', type: FieldType.time, values: one.times, config: {} },
            {
              name: 'Value',
              type: FieldType.number,
              labels: one.labels,
              values: one.values,
              config: { displayNameFromDS: legend(panel.targets[place].legendFormat, one.labels) },
            },
          ],
        }),
        panel,
        seriesIndex++
      )
    )
  );
}

// As Grafana's Prometheus data source makes one frame of an instant query in the format "table".
function tableFrame(panel: any, answer: any, place: number) {
  const labels = Object.keys(answer[0]?.labels ?? {});
  const refId = panel.targets[place].refId;
  return toDataFrame({
    refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: answer.map((one: any) => one.times[0]) },
      ...labels.map((name) => ({
        name,
        type: FieldType.string,
        values: answer.map((one: any) => one.labels[name]),
      })),
      {
        name: `Value #${refId}`,
        type: FieldType.number,
        values: answer.map((one: any) => one.values[0]),
      },
    ],
  });
}

function Numbers({ panel, answers, width, height }: any) {
  const frames = lineFrames(panel, answers);
  if (frames.length === 0) {
    return <div>{panel.fieldConfig.defaults.noValue}</div>;
  }
  return frames.map((frame: any, place: number) => {
    const field = frame.fields[1];
    const value = field.display(field.values[field.values.length - 1]);
    return (
      <BigValue
        key={place}
        value={value}
        width={width}
        height={height / frames.length}
        theme={theme}
        colorMode={panel.options.colorMode ?? BigValueColorMode.Value}
        graphMode={BigValueGraphMode.None}
      />
    );
  });
}

function Lines({ panel, answers, width, height, range }: any) {
  const frames = lineFrames(panel, answers);
  if (frames.length === 0) {
    return <div>No data</div>;
  }
  return (
    <TimeSeries
      frames={frames}
      timeRange={range}
      timeZone="utc"
      width={width}
      height={height}
      legend={panel.options.legend}
    />
  );
}

function Content(props: any) {
  const { panel, table, width, height } = props;
  if (panel.type === 'stat') {
    return <Numbers {...props} />;
  }
  if (panel.type === 'timeseries') {
    return <Lines {...props} />;
  }
  if (panel.type === 'table') {
    return <Table data={table} width={width} height={height} />;
  }
  if (panel.type === 'text') {
    const html = renderMarkdown(panel.options.content);
    return <div className="markdown" dangerouslySetInnerHTML={{ __html: html }} />;
  }
  return <div>{panel.type} is not in these packages</div>;
}

class Guard extends React.Component<any, any> {
  state = { error: null as any };
  static getDerivedStateFromError(error: any) {
    return { error };
  }
  render() {
    return this.state.error ? <pre className="failed">{String(this.state.error)}</pre> : this.props.children;
  }
}

function Placed({ one, table, range }: any) {
  const { x, y, w, h } = one.panel.gridPos;
  const place = { left: x * 50, top: y * CELL * 1.5, width: w * 50 - 8, height: h * CELL * 1.5 - 8 };
  const style: any = { position: 'absolute', ...place };
  if (one.panel.type === 'row') {
    return <h3 style={style}>{one.panel.title}</h3>;
  }
  return (
    <div style={style} className="panel" data-panel={one.panel.title} data-type={one.panel.type}>
      <PanelChrome
        title={one.panel.title}
        description={one.panel.description}
        width={place.width}
        height={place.height}
        loadingState={LoadingState.Done}
      >
        {(width: number, height: number) => (
          <Guard>
            <Content
              panel={one.panel}
              answers={one.answers}
              table={table}
              range={range}
              width={width}
              height={height}
            />
          </Guard>
        )}
      </PanelChrome>
    </div>
  );
}

async function tableOf(one: any): Promise<any> {
  if (one.panel.type !== 'table') {
    return undefined;
  }
  const frames = one.answers.map((answer: any, place: number) => tableFrame(one.panel, answer, place));
  return new Promise((resolve) => {
    transformDataFrame(one.panel.transformations, frames).subscribe(([merged]: any) =>
      resolve(configured(merged, one.panel))
    );
  });
}

async function draw() {
  const { panels, from, to } = (window as any).PANELS;
  const range = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
  const tables = await Promise.all(panels.map(tableOf));
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      {panels.map((one: any, place: number) => (
        <Placed key={place} one={one} table={tables[place]} range={range} />
      ))}
    </ThemeContext.Provider>
  );
}

window.addEventListener('error', (event) => {
  document.body.insertAdjacentHTML('beforeend', `<pre class="failed">${event.message}</pre>`);
});
draw().catch((error) => {
  document.body.insertAdjacentHTML('beforeend', `<pre class="failed">${error.stack}</pre>`);
});
