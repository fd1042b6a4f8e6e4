/** The Unix socket: frames in and out, one tracer that knows the token. */

import { createServer, type Server, type Socket } from 'node:net';
import { FRAME_JSON, FRAME_RING } from '../protocol.ts';

/** Bytes the kernel and Node hold for a slow tracer before draining stops. */
const BACKPRESSURE_BYTES = 4 << 20;
/** Longest request: program texts and script sources stay well below. */
const MAX_FRAME = 256 << 20;

export interface ServerEvents {
  onRequest(id: number, method: string, params: unknown): void;
  onGone(): void;
}

export class AgentServer {
  readonly #token: string;
  readonly #events: ServerEvents;
  readonly #server: Server;
  #socket: Socket | undefined;

  constructor(path: string, token: string, events: ServerEvents) {
    this.#token = token;
    this.#events = events;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.on('error', () => this.#events.onGone());
    this.#server.listen(path);
  }

  #accept(socket: Socket): void {
    let buffer: Buffer = Buffer.alloc(0);
    let trusted = false;
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      if (socket === this.#socket) this.#events.onGone();
    });
    socket.on('data', (chunk: Buffer) => {
      buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk]);
      while (buffer.length >= 5) {
        const length = buffer.readUInt32LE(0);
        if (length > MAX_FRAME || (!trusted && length > 4096)) return void socket.destroy();
        if (buffer.length < 5 + length) return;
        const payload = buffer.subarray(5, 5 + length);
        buffer = buffer.subarray(5 + length);
        const { id, method, params } = JSON.parse(payload.toString('utf8')) as {
          id: number;
          method: string;
          params: { token?: unknown };
        };
        if (!trusted) {
          if (method !== 'hello' || params?.token !== this.#token) return void socket.destroy();
          trusted = true;
          this.#socket = socket;
          // one tracer a session: nobody else gets in
          this.#server.close();
        }
        this.#events.onRequest(id, method, params);
      }
    });
  }

  json(message: unknown): void {
    this.#write(FRAME_JSON, [Buffer.from(JSON.stringify(message))]);
  }

  ring(index: number, records: Buffer): void {
    const header = Buffer.alloc(4);
    header.writeUInt32LE(index);
    this.#write(FRAME_RING, [header, records]);
  }

  #write(kind: number, parts: readonly Buffer[]): void {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed) return;
    const header = Buffer.alloc(5);
    header.writeUInt32LE(parts.reduce((sum, part) => sum + part.length, 0));
    header[4] = kind;
    socket.cork();
    socket.write(header);
    for (const part of parts) socket.write(part);
    socket.uncork();
  }

  /** The tracer reads too slowly: ring records stay where they are, and what finds no room there is counted as lost. */
  get congested(): boolean {
    return (this.#socket?.writableLength ?? 0) > BACKPRESSURE_BYTES;
  }

  /** The tracer has read what was sent, or has gone. */
  relieved(): Promise<void> {
    const socket = this.#socket;
    return new Promise((resolve) => {
      if (socket === undefined || socket.destroyed || socket.writableLength === 0) return resolve();
      const done = (): void => {
        socket.off('drain', done);
        socket.off('close', done);
        resolve();
      };
      socket.on('drain', done);
      socket.on('close', done);
    });
  }

  /** Bytes not yet handed to the kernel. */
  drained(): Promise<void> {
    const socket = this.#socket;
    return new Promise((resolve) => {
      if (socket === undefined || socket.destroyed) return resolve();
      socket.end(() => resolve());
      socket.once('close', () => resolve());
    });
  }

  close(): void {
    this.#server.close();
    this.#socket?.destroy();
  }
}
