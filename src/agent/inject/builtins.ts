/** Node's own modules that the injected text uses, as `process.getBuiltinModule` gives them. */

type Builtins = {
  fs: typeof import('node:fs');
  path: typeof import('node:path');
  worker_threads: typeof import('node:worker_threads');
  inspector: typeof import('node:inspector');
  timers: typeof import('node:timers');
  stream: typeof import('node:stream');
  'stream/promises': typeof import('node:stream/promises');
  string_decoder: typeof import('node:string_decoder');
  diagnostics_channel: typeof import('node:diagnostics_channel');
  vm: typeof import('node:vm');
  module: typeof import('node:module');
  v8: typeof import('node:v8');
};
export type Builtin = <K extends keyof Builtins>(id: K) => Builtins[K];
