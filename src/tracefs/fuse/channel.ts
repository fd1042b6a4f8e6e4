/** The way to the kernel of a mount. */
export interface Channel {
  /** Resolves with the reason when nothing more comes: `ENODEV` for an unmount. */
  readonly ended: Promise<string>;
  /** Sends a message. One for which nobody waits any more is no error. */
  send(message: Uint8Array): void;
  /** Behind the end. */
  close(): void;
}
