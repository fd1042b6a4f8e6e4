import { coreFiles } from '../kernel/trace/core-files.ts';
import { filterFiles } from '../kernel/trace/filter/filter-files.ts';
import { probeFiles } from '../kernel/trace/probe/files.ts';
import type { FilesPart } from '../kernel/trace/trace-files.ts';
import { triggerFiles } from '../kernel/trace/trigger/trigger-files.ts';

/** The parts of the tracing core that have files. */
export const DEFAULT_PARTS: readonly FilesPart[] = [coreFiles, probeFiles, filterFiles, triggerFiles];
