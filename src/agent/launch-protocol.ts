/**
 * What a tracer and the program it starts (`trapline -c`) say to each other before and behind everything else: lines of JSON on
 * a Unix socket. Program: LaunchHello; tracer: LaunchOrder; program: {} when the files are prepared; tracer: {} to begin.
 */

/** Environment variables: the folder of the tracer's socket, and NODE_OPTIONS as it was. */
export const LAUNCH_VARIABLE = 'TRAPLINE_LAUNCH';
export const OPTIONS_VARIABLE = 'TRAPLINE_LAUNCH_NODE_OPTIONS';
export const LAUNCH_SOCKET = 'socket';
/** In the folder while the process waits at its exit; the tracer removes it. */
export const EXITING_FILE = 'exiting';

/** First line to the tracer. */
export interface LaunchHello {
  readonly pid: number;
  readonly cwd: string;
  /** The main module's path, as far as it is known. */
  readonly main: string | undefined;
  /** Node runs TypeScript itself there, and nobody else does. */
  readonly runsTypes: boolean;
}

/** The tracer's answer: files whose functions are to get sites before they are loaded. */
export interface LaunchOrder {
  readonly tracer: number;
  readonly files: readonly string[];
  /** The ends of calls are wanted too. */
  readonly ends: boolean;
}
