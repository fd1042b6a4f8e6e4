/** The tracer's end of the Unix socket: requests by number, notices, ring records. */

import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { FRAME_JSON, FRAME_RING, type Notice, type Reply } from '../agent/protocol.ts';
import type { Method, Methods } from '../agent/worker/requests.ts';
import { TraplineError } from '../errors.ts';

export interface ConnectionEvents {
  onNotice(notice: Notice): void;
  /** The view is valid for the call only; `ring` is the index of the map. */
  onRecord(record: DataView, ring: number): void;
  /** `exited` tells a process that has ended from a connection that broke. */
  onClose(reason: string, exited: boolean): void;
}

/** A process that ends closes its sockets a little before it counts as ended. */
const EXIT_MS = 500;
const EXIT_STEP_MS = 10;

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class AgentConnection {
  readonly #socket: Socket;
  readonly #alive: () => boolean;
  readonly #pending = new Map<number, Pending>();
  readonly #chunks: Buffer[] = [];
  #buffered = 0;
  #next = 1;
  /** Why requests are refused; undefined while they are not. */
  #over: string | undefined;
  /** Settled when it is known what became of the process whose connection is closed. */
  #verdict: Promise<void> | undefined;
  events: ConnectionEvents | undefined;

  private constructor(socket: Socket, alive: () => boolean) {
    this.#socket = socket;
    this.#alive = alive;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    // reset, broken pipe: what there is to say of it comes with `close`
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#verdict ??= this.#lost();
    });
  }

  /** Connects as soon as the agent listens. */
  static async open(path: string, waitMs: number, alive: () => boolean): Promise<AgentConnection> {
    const deadline = Date.now() + waitMs;
    for (;;) {
      if (existsSync(path)) {
        const socket = await tryConnect(path);
        if (socket !== undefined) return new AgentConnection(socket, alive);
      }
      if (!alive()) throw new TraplineError('ESRCH', 'the process exited while the agent was starting');
      if (Date.now() > deadline) throw new TraplineError('ETIMEDOUT', 'the agent did not start in time');
      await sleep(1);
    }
  }

  request<M extends Method>(
    method: M,
    ...[params]: Methods[M][0] extends undefined ? [] : [Methods[M][0]]
  ): Promise<Methods[M][1]> {
    if (this.#over !== undefined) return this.#refuse(this.#over);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (result: unknown) => void, reject });
      const payload = Buffer.from(JSON.stringify({ id, method, params }));
      const header = Buffer.alloc(5);
      header.writeUInt32LE(payload.length);
      header[4] = FRAME_JSON;
      this.#socket.cork();
      this.#socket.write(header);
      this.#socket.write(payload);
      this.#socket.uncork();
    });
  }

  /**
   * The last request; any later one is refused here. The agent closes its end behind the answer, and Node throws away what
   * a socket has received and not yet read when a write to it fails: so nothing may be written that could meet that.
   */
  finish<M extends Method>(
    method: M,
    ...params: Methods[M][0] extends undefined ? [] : [Methods[M][0]]
  ): Promise<Methods[M][1]> {
    const reply = this.request(method, ...params);
    this.#over ??= 'the session has ended';
    return reply;
  }

  /** Requests are refused: the session ends, or has ended. */
  get closed(): boolean {
    return this.#over !== undefined;
  }

  close(): void {
    this.#socket.destroy();
  }

  ref(on: boolean): void {
    if (on) this.#socket.ref();
    else this.#socket.unref();
  }

  #receive(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    for (;;) {
      const header = this.#peek(5);
      if (header === undefined) return;
      const length = header.readUInt32LE(0);
      if (this.#buffered < 5 + length) return;
      const frame = this.#take(5 + length);
      this.#frame(frame[4] ?? 0, frame.subarray(5));
    }
  }

  #peek(length: number): Buffer | undefined {
    if (this.#buffered < length) return undefined;
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= length) return first;
    const joined = Buffer.concat(this.#chunks);
    this.#chunks.splice(0, this.#chunks.length, joined);
    return joined;
  }

  #take(length: number): Buffer {
    if ((this.#chunks[0]?.length ?? 0) < length)
      this.#chunks.splice(0, this.#chunks.length, Buffer.concat(this.#chunks));
    const first = this.#chunks[0] ?? Buffer.alloc(0);
    this.#buffered -= length;
    if (first.length === length) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(length);
    return first.subarray(0, length);
  }

  #frame(kind: number, payload: Buffer): void {
    if (kind === FRAME_RING) {
      this.#records(payload);
      return;
    }
    const message = JSON.parse(payload.toString('utf8')) as Reply | Notice;
    if ('event' in message) {
      this.events?.onNotice(message);
      return;
    }
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if ('error' in message) {
      const { code, message: text, log } = message.error;
      pending?.reject(new TraplineError(code, text, { log }));
    } else pending?.resolve(message.result);
  }

  #records(payload: Buffer): void {
    const ring = payload.readUInt32LE(0);
    let at = 4;
    while (at + 4 <= payload.length) {
      const length = payload.readUInt32LE(at);
      this.events?.onRecord(new DataView(payload.buffer, payload.byteOffset + at + 4, length), ring);
      at += Math.ceil((4 + length) / 8) * 8;
    }
  }

  /** After `onClose`, so that whoever is refused knows why. */
  async #refuse(over: string): Promise<never> {
    await this.#verdict;
    throw gone(this.#over ?? over);
  }

  async #lost(): Promise<void> {
    this.#over ??= 'the process has exited';
    for (let waited = 0; this.#alive() && waited < EXIT_MS; waited += EXIT_STEP_MS) await sleep(EXIT_STEP_MS);
    const exited = !this.#alive();
    const reason = exited ? 'the process has exited' : 'the agent in the process has ended';
    this.#over = reason;
    for (const { reject } of this.#pending.values()) reject(gone(reason));
    this.#pending.clear();
    this.events?.onClose(reason, exited);
  }
}

const gone = (reason: string): TraplineError => new TraplineError('EGONE', reason);

function tryConnect(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', () => resolve(undefined));
  });
}
