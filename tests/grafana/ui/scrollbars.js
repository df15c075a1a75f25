// react-custom-scrollbars-2 as a module: from an .mjs file, its default export would not be found.

import * as all from './node_modules/react-custom-scrollbars-2/lib/index.js';

export const Scrollbars = all.Scrollbars;
export default all.Scrollbars;
