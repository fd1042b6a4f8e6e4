/** What the tracer gives to the injected text, and gets back. */

export interface InjectConfig {
  readonly token: string;
  readonly key: string;
  /** Random part of every name the agent may define. */
  readonly nonce: string;
  /** The inspector was opened for this session: it has to be closed again, whatever becomes of the tracer. */
  readonly closeInspector: boolean;
  readonly workerText: string;
  readonly agentText: string;
  readonly armingText: string;
}

export type InjectResult =
  | { readonly ok: true; readonly folder: string; readonly socket: string; readonly nodeVersion: string }
  | { readonly ok: false; readonly code: string; readonly message: string; readonly hint?: string };

/** How every name begins that the agent may define while edits or breakpoints are in place: an identifier that no application has. */
export const agentPrefix = (nonce: string): string => `$tl${nonce}_`;
