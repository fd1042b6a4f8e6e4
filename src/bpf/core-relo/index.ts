/** CO-RE: programs adapted to the types of the kernel, or of any target, that they are loaded on. See README.md. */
export {
  applyCoreRelocations,
  type CoreRelocationOptions,
  type CoreReloReport,
} from './core-relo.ts';
export { CoreReloError } from './error.ts';
export { CORE_RELO_NAMES, type CoreReloName } from './kinds.ts';
export { POISON_HELPER } from './patch.ts';
