/** What the browser runs: bundled with the engine, called by bpf.test.ts through `window.trapline`. */
import {
  assemble,
  type BtfValue,
  createMachine,
  createMap,
  createMemory,
  decodeInsns,
  encodeInsns,
  Interpreter,
  initMemory,
  jitRaw,
  layoutMemory,
  loadProgram,
  type MapSpec,
  openMap,
  openObject,
  VerifierError,
} from '../../src/bpf/index.ts';
import { bpfFixture, tcpPacket } from '../../src/bpf/testing/index.ts';

/** A vector of bpf_conformance, taken apart. */
export interface Vector {
  readonly name: string;
  readonly asm: string | undefined;
  readonly raw: readonly string[] | undefined;
  readonly memory: readonly number[];
  /** Undefined: an error is expected. */
  readonly result: string | undefined;
}

/** What is used of the browser. Its library's declarations would hold for all tests. */
const page = globalThis as unknown as {
  readonly document?: object;
  readonly Worker: new (
    url: string,
    options: { type: 'module' },
  ) => {
    onmessage: () => void;
    onerror: (event: { readonly message: string }) => void;
    postMessage(message: unknown): void;
    terminate(): void;
  };
  onmessage: (event: { readonly data: WorkerInput }) => void;
  postMessage(message: unknown): void;
};

const PAGE = 65536;
const PAGES = 3;
const STACK = 1024;
const DATA = 16384;
const UNWIND = 5;

function run(vector: Vector, engine: 'interpreter' | 'jit', memory: WebAssembly.Memory): bigint {
  const insns =
    vector.raw === undefined
      ? assemble(vector.asm!)
      : decodeInsns(new Uint8Array(new BigUint64Array(vector.raw.map(BigInt)).buffer));
  new Uint8Array(memory.buffer).fill(0);
  new Uint8Array(memory.buffer).set(vector.memory, DATA);
  const r1 = vector.memory.length === 0 ? 0n : BigInt(DATA);
  const r2 = BigInt(vector.memory.length);
  if (engine === 'interpreter') {
    return new Interpreter(
      {
        insns,
        memory: memory.buffer,
        stack: STACK,
        unwindHelper: UNWIND,
        helper(id, args) {
          if (id !== UNWIND) throw new Error(`no helper ${id}`);
          return args[0]!;
        },
      },
      r1,
      r2,
    ).run(10_000_000);
  }
  const wasm = jitRaw(insns, {
    memory: { min: PAGES, max: PAGES, shared: true },
    stack: STACK,
    helpers: [UNWIND],
    unwindHelper: UNWIND,
  });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm as Uint8Array<ArrayBuffer>), {
    env: { memory },
    helper: { [UNWIND]: (argument: bigint) => argument },
  });
  return BigInt.asUintN(64, (exports['run64'] as (a: bigint, b: bigint) => bigint)(r1, r2));
}

const trapline = {
  /** Differences, one a line. */
  conformance(vectors: readonly Vector[]): { problems: string[]; runs: number } {
    const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
    const problems: string[] = [];
    let runs = 0;
    for (const vector of vectors) {
      for (const engine of ['interpreter', 'jit'] as const) {
        let got: string;
        try {
          got = `0x${run(vector, engine, memory).toString(16)}`;
        } catch {
          got = 'an error';
        }
        runs++;
        const wanted = vector.result ?? 'an error';
        if (got !== wanted) problems.push(`${vector.name}, ${engine}: ${got}, not ${wanted}`);
      }
    }
    return { problems, runs };
  },

  /** A model and a map of each kind, a thousand random operations. */
  maps(): string[] {
    const problems: string[] = [];
    let seed = 7;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    const key = (n: number) => new Uint8Array(Uint32Array.of(n).buffer);
    const value = (n: number) => new Uint8Array(BigUint64Array.of(BigInt(n)).buffer);
    for (const type of ['hash', 'array', 'lru_hash'] as const) {
      const map = createMachine().createMap({ name: type, type, keySize: 4, valueSize: 8, maxEntries: 64 });
      const model = new Map<number, number>();
      if (type === 'array') for (let n = 0; n < 64; n++) model.set(n, 0);
      for (let n = 0; n < 1000; n++) {
        const k = random(64);
        if (random(3) > 0) {
          map.update(key(k), value(n));
          model.set(k, n);
        } else if (type !== 'array') {
          map.delete(key(k));
          model.delete(k);
        }
      }
      for (let k = 0; k < 64; k++) {
        const found = map.lookup(key(k));
        const number = found === undefined ? undefined : Number(new BigUint64Array(found.slice().buffer)[0]);
        if (number !== model.get(k)) problems.push(`${type}[${k}]: ${number}, not ${model.get(k)}`);
      }
      if (map.size !== model.size) problems.push(`${type}: ${map.size} entries, not ${model.size}`);
    }
    return problems;
  },

  /** A program by text, with a map, in both engines; one that is refused. */
  programs(): unknown {
    const counts = createMap({ name: 'counts', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 });
    const insns = [
      'r1 = 0',
      '*(u32 *)(r10 -4) = r1',
      'r2 = r10',
      'r2 += -4',
      'r1 = map[idx:0]',
      'call bpf_map_lookup_elem',
      'if r0 == 0 goto out',
      'r1 = 1',
      'lock *(u64 *)(r0 +0) += r1',
      'out:',
      'r0 = 2',
      'exit',
    ].join('\n');
    const retvals = (['jit', 'interpreter'] as const).map((engine) =>
      loadProgram({ type: 'xdp', insns, maps: [counts], engine }).testRun({
        dataIn: new Uint8Array(64),
        repeat: 10,
      }),
    );
    let refused = '';
    try {
      loadProgram({ type: 'xdp', insns: 'r0 = *(u64 *)(r1 +4096)\nexit' });
    } catch (error) {
      if (error instanceof VerifierError) refused = error.summary;
    }
    return {
      retvals: retvals.map(({ retval }) => retval),
      count: Number(new BigUint64Array(counts.lookup(new Uint8Array(4))!.slice().buffer)[0]),
      refused,
      same: encodeInsns(assemble('exit')).length,
    };
  },

  /** An object of clang, and the testing companion. */
  object(bytes: readonly number[]): unknown {
    const object = openObject(Uint8Array.from(bytes), 'firewall.bpf.o');
    const firewall = bpfFixture(Uint8Array.from(bytes));
    const before = firewall.run('firewall', tcpPacket({ source: '192.0.2.7' })).retval;
    const blocked: BtfValue = { length: 24, address: [192, 0, 2, 0] };
    firewall.map('blocked').set(blocked, 0n);
    const after = firewall.run('firewall', tcpPacket({ source: '192.0.2.7' })).retval;
    return {
      programs: [...object.spec.programs.keys()],
      verdicts: [before, after],
      hits: Number(firewall.map('blocked').get(blocked)),
      reports: firewall.records('drops', 'drop').length,
    };
  },

  /** Two workers add to one map at the same time: no update may be lost. */
  async threads(bundle: string, adds: number): Promise<number> {
    const spec: MapSpec = { name: 'sum', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 };
    const layout = layoutMemory([spec], { ncpu: 1 });
    const memory = createMemory(layout);
    initMemory(memory, layout);
    const map = openMap(memory, layout, 0);
    await Promise.all(
      [0, 1].map(
        () =>
          new Promise<void>((resolve, reject) => {
            const worker = new page.Worker(bundle, { type: 'module' });
            worker.onmessage = () => {
              worker.terminate();
              resolve();
            };
            worker.onerror = (event) => reject(new Error(event.message));
            worker.postMessage({ memory, address: map.placed.address + map.placed.geometry.data, adds });
          }),
      ),
    );
    return Number(new BigUint64Array(map.lookup(new Uint8Array(4))!.slice().buffer)[0]);
  },
};

export type Trapline = typeof trapline;

interface WorkerInput {
  readonly memory: WebAssembly.Memory;
  readonly address: number;
  readonly adds: number;
}

if (page.document === undefined) {
  // In a worker: a compiled program adds to the map's value.
  page.onmessage = ({ data }: { data: WorkerInput }) => {
    const { memory, address, adds } = data;
    const pages = memory.buffer.byteLength / PAGE;
    const insns = assemble('r0 = 1\nlock *(u64 *)(r1 +0) += r0\nexit');
    const wasm = jitRaw(insns, { memory: { min: pages, max: pages, shared: true }, stack: STACK });
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm as Uint8Array<ArrayBuffer>), {
      env: { memory },
    });
    const add = exports['run64'] as (a: bigint, b: bigint) => bigint;
    for (let n = 0; n < adds; n++) add(BigInt(address), 0n);
    page.postMessage('done');
  };
} else Object.assign(globalThis, { trapline });
