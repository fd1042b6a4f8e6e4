export type { HelperContext, HelperImpl } from './context.ts';
export { type FreeContext, freeFields } from './objects.ts';
export { REFUSED_HELPERS, refusedKfunc } from './refused.ts';
export { type HelperEffect, type HelperOptions, HelperRuntime, type TaskOptions } from './runtime.ts';
export {
  bindHelpers,
  bindKfuncs,
  EMITTED_KFUNCS,
  fileOf,
  HELPER_IMPLS,
  KFUNC_IMPLS,
  MACHINE_KFUNCS,
} from './table.ts';
export type { TimerQueue } from './timer-queue.ts';
