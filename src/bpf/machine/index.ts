export { type AttachedMachine, type AttachOptions, attachMachine } from './attach.ts';
export { MemoryImage } from './image.ts';
export { createMachine } from './machine.ts';
export type {
  LoadedMap,
  LoadedProgram,
  LoadInput,
  Machine,
  MachineOptions,
  RunOptions,
  SharedMachine,
  TestRunOptions,
  TestRunResult,
} from './types.ts';
export { XDP_MD, XDP_MD_PRIVATE } from './xdp.ts';
