import { describe, expect, test } from 'vitest';
import { emptySystem } from '../../src/cli/tracefs-system.ts';
import { FuseServer } from '../../src/tracefs/fuse/server.ts';

const OP = {
  LOOKUP: 1,
  GETATTR: 3,
  SETATTR: 4,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  RELEASE: 18,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  CREATE: 35,
  INTERRUPT: 36,
  POLL: 40,
};
const O_NONBLOCK = 0o4000;
const O_TRUNC = 0o1000;

interface Reply {
  readonly error: number;
  readonly body: Uint8Array;
}

/** A kernel that asks: messages as /dev/fuse carries them. */
class Kernel {
  readonly #server: FuseServer;
  readonly replies = new Map<bigint, Reply>();
  readonly notified: bigint[] = [];
  readonly defects: unknown[] = [];
  #unique = 2n;

  constructor() {
    this.#server = new FuseServer(emptySystem().fs, {
      send: (message) => {
        const view = new DataView(message.buffer, message.byteOffset, message.length);
        expect(view.getUint32(0, true)).toBe(message.length);
        const unique = view.getBigUint64(8, true);
        const body = message.subarray(16);
        if (unique === 0n) this.notified.push(view.getBigUint64(16, true));
        else this.replies.set(unique, { error: view.getInt32(4, true), body });
      },
      defect: (error) => this.defects.push(error),
    });
  }

  send(opcode: number, nodeid: bigint, argument: Uint8Array): bigint {
    const message = new Uint8Array(40 + argument.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, message.length, true);
    view.setUint32(4, opcode, true);
    const unique = this.#unique;
    this.#unique += 2n;
    view.setBigUint64(8, unique, true);
    view.setBigUint64(16, nodeid, true);
    message.set(argument, 40);
    this.#server.handle(message);
    return unique;
  }

  handle(bytes: Uint8Array): void {
    this.#server.handle(bytes);
  }

  ask(opcode: number, nodeid: bigint, argument: Uint8Array): Reply {
    const reply = this.replies.get(this.send(opcode, nodeid, argument));
    if (reply === undefined) throw new Error('no reply');
    return reply;
  }

  lookup(path: string): bigint {
    let node = 1n;
    for (const name of path.split('/')) node = u64(this.ask(OP.LOOKUP, node, text(`${name}\0`)).body, 0);
    return node;
  }

  open(path: string, flags: number): bigint {
    const { error, body } = this.ask(OP.OPEN, this.lookup(path), words(flags, 0));
    expect(error).toBe(0);
    return u64(body, 0);
  }

  write(handle: bigint, data: string): number {
    const bytes = text(data);
    const argument = new Uint8Array(40 + bytes.length);
    const view = new DataView(argument.buffer);
    view.setBigUint64(0, handle, true);
    view.setUint32(16, bytes.length, true);
    argument.set(bytes, 40);
    const { error, body } = this.ask(OP.WRITE, 1n, argument);
    return error === 0 ? new DataView(body.buffer, body.byteOffset).getUint32(0, true) : error;
  }
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

function u64(bytes: Uint8Array, offset: number): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(offset, true);
}

function readIn(handle: bigint, offset: number, size: number, flags = 0): Uint8Array {
  const argument = new Uint8Array(40);
  const view = new DataView(argument.buffer);
  view.setBigUint64(0, handle, true);
  view.setBigUint64(8, BigInt(offset), true);
  view.setUint32(16, size, true);
  view.setUint32(32, flags, true);
  return argument;
}

function shown(body: Uint8Array): string {
  return new TextDecoder().decode(body);
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the FUSE protocol', () => {
  test('INIT answers with the older of two versions and asks for O_TRUNC in OPEN', () => {
    const { error, body } = new Kernel().ask(OP.INIT, 0n, words(7, 23, 65536, 0xffffffff));
    expect(error).toBe(0);
    const view = new DataView(body.buffer, body.byteOffset, body.length);
    expect([body.length, view.getUint32(0, true), view.getUint32(4, true)]).toEqual([64, 7, 23]);
    expect(view.getUint32(12, true) & 8).toBe(8);
  });

  test('names, attributes and what cannot be made', () => {
    const kernel = new Kernel();
    expect(kernel.ask(OP.LOOKUP, 1n, text('nothing\0')).error).toBe(-2);
    expect(kernel.ask(OP.CREATE, 1n, new Uint8Array([...words(1, 0, 0, 0), ...text('new\0')])).error).toBe(
      -13,
    );
    const trace = kernel.lookup('trace');
    const { body } = kernel.ask(OP.GETATTR, trace, new Uint8Array(16));
    expect(new DataView(body.buffer, body.byteOffset).getUint32(16 + 60, true)).toBe(0o100640);
    expect(u64(body, 16)).toBe(trace);
    // a number that was never given out
    expect(kernel.ask(OP.GETATTR, 999n, new Uint8Array(16)).error).toBe(-116);
  });

  test('writes, reads at offsets, and what a file refuses', () => {
    const kernel = new Kernel();
    const marker = kernel.open('trace_marker', 1);
    expect(kernel.write(marker, 'one')).toBe(3);
    const trace = kernel.open('trace', 0);
    const all = shown(kernel.ask(OP.READ, 1n, readIn(trace, 0, 65536)).body);
    expect(all).toMatch(/tracing_mark_write: one\n$/);
    expect(shown(kernel.ask(OP.READ, 1n, readIn(trace, all.length - 4, 10)).body)).toBe('one\n');
    expect(kernel.ask(OP.READ, 1n, readIn(trace, 1e6, 10)).body).toHaveLength(0);
    expect(kernel.write(kernel.open('current_tracer', 1), 'nonsense')).toBe(-22);
    kernel.open('trace', 1 | O_TRUNC);
    expect(shown(kernel.ask(OP.READ, 1n, readIn(kernel.open('trace', 0), 0, 65536)).body)).not.toContain(
      'one',
    );
    expect(kernel.ask(OP.READ, 1n, readIn(4711n, 0, 10)).error).toBe(-9);
    expect(kernel.defects).toEqual([]);
  });

  test('a read of trace_pipe waits; an interrupt ends it and takes nothing', async () => {
    const kernel = new Kernel();
    const pipe = kernel.open('trace_pipe', 0);
    const waiting = kernel.send(OP.READ, 1n, readIn(pipe, 0, 4096));
    await turn();
    expect(kernel.replies.has(waiting)).toBe(false);
    const argument = new Uint8Array(8);
    new DataView(argument.buffer).setBigUint64(0, waiting, true);
    kernel.send(OP.INTERRUPT, 0n, argument);
    await turn();
    expect(kernel.replies.get(waiting)?.error).toBe(-4);
    const again = kernel.send(OP.READ, 1n, readIn(pipe, 0, 4096));
    kernel.write(kernel.open('trace_marker', 1), 'later');
    await turn();
    expect(shown(kernel.replies.get(again)!.body)).toContain('later');
    // fcntl(2) has set O_NONBLOCK since
    expect(kernel.ask(OP.READ, 1n, readIn(pipe, 0, 4096, O_NONBLOCK)).error).toBe(-11);
  });

  test('who polls is told once', () => {
    const kernel = new Kernel();
    const pipe = kernel.open('trace_pipe', 0);
    const argument = new Uint8Array(24);
    const view = new DataView(argument.buffer);
    view.setBigUint64(0, pipe, true);
    view.setBigUint64(8, 77n, true);
    view.setUint32(16, 1, true);
    expect(u64(kernel.ask(OP.POLL, 1n, argument).body, 0)).toBe(0n);
    const marker = kernel.open('trace_marker', 1);
    kernel.write(marker, 'a');
    kernel.write(marker, 'b');
    expect(kernel.notified).toEqual([77n]);
    expect(u64(kernel.ask(OP.POLL, 1n, argument).body, 0)).toBe(0x41n);
  });

  test('folders list themselves in pieces, each name once', () => {
    const kernel = new Kernel();
    const { body } = kernel.ask(OP.OPENDIR, 1n, words(0, 0));
    const names: string[] = [];
    for (let offset = 0n; ; ) {
      const argument = readIn(u64(body, 0), Number(offset), 200);
      const part = kernel.ask(OP.READDIR, 1n, argument).body;
      if (part.length === 0) break;
      const view = new DataView(part.buffer, part.byteOffset, part.length);
      for (let at = 0; at < part.length; ) {
        const length = view.getUint32(at + 16, true);
        offset = view.getBigUint64(at + 8, true);
        names.push(shown(part.subarray(at + 24, at + 24 + length)));
        at += (24 + length + 7) & ~7;
      }
    }
    expect(names).toEqual(expect.arrayContaining(['.', '..', 'trace', 'events', 'instances']));
    expect(new Set(names).size).toBe(names.length);
  });

  test('messages that are cut, unknown or random never stop it', () => {
    const kernel = new Kernel();
    kernel.handle(new Uint8Array(3));
    kernel.handle(new Uint8Array(64).fill(255));
    expect(kernel.ask(4000, 1n, new Uint8Array(8)).error).toBe(-38);
    for (let opcode = 0; opcode < 60; opcode++) {
      if ([2, 36, 42].includes(opcode)) continue;
      const { error } = kernel.ask(opcode, 1n, new Uint8Array(0));
      expect(error).toBeGreaterThan(-512);
      expect(error).toBeLessThanOrEqual(0);
    }
    expect(shown(kernel.ask(OP.READ, 1n, readIn(kernel.open('tracing_on', 0), 0, 10)).body)).toBe('1\n');
  });
});
