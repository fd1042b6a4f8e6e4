/** The commands that are about recordings. */
export const TRACE_COMMANDS = ['record', 'report', 'export'] as const;
export type TraceCommandName = (typeof TRACE_COMMANDS)[number];
