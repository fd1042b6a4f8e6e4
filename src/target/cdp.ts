/** The inspector protocol over a WebSocket, as far as injecting the agent needs it. */

import { WebSocket } from 'ws';
import { OWN_MARK } from '../agent/protocol.ts';
import { TraplineError } from '../errors.ts';

const CLOSED = 'the inspector closed the connection';

interface Pending {
  readonly method: string;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class CdpClient {
  readonly #socket: WebSocket;
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  /** Told of events of the domains that are enabled. */
  onEvent: ((method: string, params: unknown) => void) | undefined;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data) => this.#receive(String(data)));
    socket.on('close', () => this.#fail(CLOSED));
    socket.on('error', (error) => this.#fail(error.message));
  }

  static connect(url: string): Promise<CdpClient> {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, { perMessageDeflate: false });
      const failed = (error: Error): void =>
        reject(new TraplineError('ECONNREFUSED', `cannot talk to the inspector at ${url}: ${error.message}`));
      socket.once('error', failed);
      socket.once('open', () => {
        socket.off('error', failed);
        resolve(new CdpClient(socket));
      });
    });
  }

  send(method: string, params: object = {}): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      // it would be dropped, and never answered
      if (this.#socket.readyState !== WebSocket.OPEN) {
        reject(new TraplineError('ECONNRESET', `${method}: ${CLOSED}`));
        return;
      }
      this.#pending.set(id, { method, resolve, reject });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  /** The process's monotonic clock, in ms, when this message is dispatched. */
  async clock(): Promise<number> {
    const expression = `${OWN_MARK}(t=>t[0]*1e3+t[1]/1e6)(process.hrtime())`;
    const reply = await this.send('Runtime.evaluate', { expression, returnByValue: true, silent: true });
    return Number((reply as { result: { value?: unknown } }).result.value);
  }

  /** Leaves; resolves when the other side knows, so that closing the inspector then does not wait for us. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.readyState === WebSocket.CLOSED) return resolve();
      this.#socket.once('close', () => resolve());
      this.#socket.close();
    });
  }

  #receive(text: string): void {
    const message = JSON.parse(text) as {
      id?: number;
      method?: string;
      params?: unknown;
      result?: unknown;
      error?: { message?: string };
    };
    if (message.id === undefined) {
      this.onEvent?.(message.method ?? '', message.params);
      return;
    }
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.error === undefined) pending?.resolve(message.result);
    else pending?.reject(new TraplineError('EINSPECTOR', `${pending.method}: ${message.error.message}`));
  }

  #fail(reason: string): void {
    for (const pending of this.#pending.values()) {
      pending.reject(new TraplineError('ECONNRESET', `${pending.method}: ${reason}`));
    }
    this.#pending.clear();
  }
}
