/** The bpftrace language: what other folders use. */

export { didYouMean, similarName } from '../similar.ts';
export { attachPoints } from './attach-points.ts';
export { type Compilation, type CompileOptions, compile, compileScript } from './compile.ts';
export { formatErrors, ScriptError } from './diagnostics.ts';
export { parseScript } from './parser.ts';
export { DEFAULT_CONFIG } from './passes/config.ts';
export { printScript } from './print.ts';
export * from './script.ts';
export { acrossProcesses, type SeveralProcesses } from './several.ts';
export { dumpStage, STAGES, type Stage } from './stages.ts';
