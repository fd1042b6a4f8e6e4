import * as modules from '../../../src/tracefs/index.ts';
import { GoldenSystem } from '../../support/golden/system.mjs';

export interface TestField {
  readonly type: string;
  readonly name: string;
  readonly size: number;
  readonly signed?: boolean;
}

/** The simulated system of the replays, without the events of the recordings. */
export class TestSystem {
  readonly golden: {
    readonly tracing: modules.Tracing;
    readonly fs: modules.Tracefs;
    task: { pid: number; tgid: number; comm: string; cpu: number };
    clock: bigint;
    orc(args: readonly string[]): void;
  };

  constructor() {
    this.golden = new GoldenSystem(modules, '/nonexistent');
  }

  get tracing(): modules.Tracing {
    return this.golden.tracing;
  }

  get fs(): modules.Tracefs {
    return this.golden.fs;
  }

  /** A static event; `fire` writes a record of its fields' bytes. */
  event(system: string, name: string, fields: readonly TestField[], printFmt = '""') {
    let offset = 8;
    const regs: boolean[] = [];
    const call = new modules.TraceEventCall({
      class: { system, reg: (_call, register) => void regs.push(register) },
      name,
      printFmt,
      fields: fields.map(({ type, name: field, size, signed = false }) => {
        const align = type.includes('[') ? 1 : size;
        offset = Math.ceil(offset / align) * align;
        const at = offset;
        offset += size;
        return {
          name: field,
          type,
          offset: at,
          size,
          isSigned: signed,
          filterType: modules.filterTypeOf(type),
        };
      }),
    });
    this.tracing.addEvent(call);
    return {
      call,
      regs,
      fire: (
        values: Readonly<Record<string, number | bigint | string>>,
        extra: Uint8Array = new Uint8Array(),
      ) => {
        if (call.users === 0) return;
        const data = new Uint8Array(offset + extra.length);
        data.set(extra, offset);
        const view = new DataView(data.buffer);
        const { pid, cpu } = this.golden.task;
        view.setUint16(0, call.id, true);
        view.setInt32(4, pid, true);
        for (const field of call.fields) {
          const value = values[field.name] ?? 0;
          if (typeof value === 'string') data.set(new TextEncoder().encode(value), field.offset);
          else
            for (let n = 0; n < field.size; n++)
              data[field.offset + n] = Number((BigInt(value) >> BigInt(8 * n)) & 0xffn);
        }
        this.tracing.commit(call, { cpu, ts: this.tracing.arch.now('local') as bigint, data });
      },
    };
  }

  /** The name of the error that `run` refuses with. */
  refusal(run: () => unknown): string {
    try {
      run();
    } catch (error) {
      if (error instanceof modules.KernelError) return error.code as string;
      throw error;
    }
    return 'ok';
  }

  /** The records' lines, without the head. */
  lines(path = 'trace'): string[] {
    return this.fs
      .readFile(path)
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
  }
}
