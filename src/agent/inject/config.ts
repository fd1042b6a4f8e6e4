/** What the tracer gives to the injected text, and gets back. */

export interface InjectConfig {
  readonly token: string;
  /** The tracer's process id: told to a second one. */
  readonly tracer: number;
  readonly key: string;
  /** Random part of every name the agent may define. */
  readonly nonce: string;
  /** The inspector was opened for this session: it has to be closed again, whatever becomes of the tracer. */
  readonly closeInspector: boolean;
  /** The session's folder, where the tracer has made it, with AGENT_FILE in it. */
  readonly folder?: string;
}

/**
 * The worker's text and what it loads on the main thread: a file in the session's folder, which the tracer writes as soon as the
 * folder is there and the worker reads and removes. None of it passes through the main thread's inspector.
 */
export const AGENT_FILE = 'agent.json';

export interface AgentFile {
  readonly worker: string;
  readonly agent: string;
  readonly arming: string;
  readonly events: string;
}

export type InjectResult =
  | { readonly ok: true; readonly folder: string; readonly socket: string; readonly nodeVersion: string }
  | {
      readonly ok: false;
      readonly code: string;
      readonly message: string;
      readonly hint?: string;
      readonly holder?: number;
    };

/** One piece of the injection: how long it held the main thread up, and what has come of it so far. */
export interface InjectStep {
  readonly ms: number;
  /** Set by the step that made the folder. */
  readonly folder?: string | undefined;
  /** Set by the last one. */
  readonly result?: InjectResult | undefined;
}

/** The value of the one evaluation: its pieces are asked for one by one. */
export interface Injection {
  /** Does one at once. */
  next(): InjectStep;
  /** Asks for one in a turn of the event loop; what came of the one that was asked for before, null while that is to come. */
  later(): InjectStep | null;
  /** The tracer cannot go on: nothing stays. */
  abort(): void;
}

/** How every name begins that the agent may define while edits or breakpoints are in place: an identifier that no application has. */
export const agentPrefix = (nonce: string): string => `$tl${nonce}_`;
