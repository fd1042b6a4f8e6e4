import { KernelError } from '../../../src/kernel/errno.ts';
import { readable } from '../../../src/kernel/trace/byte-string.ts';
import type { OpenFlags } from '../../../src/kernel/trace/file-operations.ts';
import { probeFiles } from '../../../src/kernel/trace/probe/files.ts';
import { RingBuffer } from '../../../src/kernel/trace/ring-buffer/ring-buffer.ts';
import type {
  KallsymsSymbol,
  ProbeContext,
  ProbeHit,
  TraceArch,
  TypeDescription,
} from '../../../src/kernel/trace/trace-arch.ts';
import { entryType } from '../../../src/kernel/trace/trace-entry.ts';
import { TraceEventCall } from '../../../src/kernel/trace/trace-event.ts';
import type { Files } from '../../../src/kernel/trace/trace-files.ts';
import { Tracing } from '../../../src/kernel/trace/tracing.ts';

type Params = readonly (readonly [name: string, type: string])[];

const TEXT = 0xffff_ffff_8100_0000n;

interface Declared {
  readonly size?: number;
  readonly params?: Params;
  readonly returnType?: string;
  readonly entry?: boolean;
  readonly blacklisted?: boolean;
  readonly module?: string;
}

/** Symbols of Linux 6.12 that the definitions name, in the order of their addresses. */
const SYMBOLS: readonly (readonly [name: string, declared: Declared])[] = [
  ['_stext', { entry: false, size: 0x1000 }],
  [
    'vfs_read',
    {
      size: 0x2d0,
      params: [
        ['file', 'struct file *'],
        ['buf', 'char __user *'],
        ['count', 'size_t'],
        ['pos', 'loff_t *'],
      ],
      returnType: 'ssize_t',
    },
  ],
  [
    'vfs_write',
    {
      size: 0x4a0,
      params: [
        ['file', 'struct file *'],
        ['buf', 'const char __user *'],
        ['count', 'size_t'],
        ['pos', 'loff_t *'],
      ],
      returnType: 'ssize_t',
    },
  ],
  [
    'vfs_open',
    {
      params: [
        ['path', 'const struct path *'],
        ['file', 'struct file *'],
      ],
      returnType: 'int',
    },
  ],
  ['kfree', { params: [['object', 'const void *']], returnType: 'void' }],
  [
    'path_openat',
    {
      params: [
        ['nd', 'struct nameidata *'],
        ['op', 'const struct open_flags *'],
        ['flags', 'unsigned int'],
      ],
      returnType: 'struct file *',
    },
  ],
  [
    'do_sys_openat2',
    {
      size: 0xe0,
      params: [
        ['dfd', 'int'],
        ['filename', 'const char __user *'],
        ['how', 'struct open_how *'],
      ],
      returnType: 'long',
    },
  ],
  ['__do_sys_openat2', { size: 0x130 }],
  ['kernel_clone', { params: [['args', 'struct kernel_clone_args *']], returnType: 'pid_t' }],
  ['do_exit', { params: [['code', 'long']], returnType: 'void' }],
  ['name_show', {}],
  ['name_show', {}],
  // Functions that tracing may not touch, and data.
  ...['sched_clock', 'kprobe_ftrace_handler', 'notifier_call_chain', '__schedule', 'native_load_idt'].map(
    (name): [string, Declared] => [name, { entry: false }],
  ),
  ['asm_exc_int3', { entry: false, blacklisted: true }],
  ['jiffies', { entry: false }],
  ['linux_banner', { entry: false }],
  ['modprobe_path', { entry: false }],
  ['netfs_read', { module: 'netfs' }],
  ['p9_open', { module: '9p' }],
  ['größe', { params: [['länge', 'any']], returnType: 'any' }],
  [
    'handle',
    {
      params: [
        ['request', 'any'],
        ['reply', 'any'],
      ],
      returnType: 'any',
    },
  ],
];

const TYPES: Readonly<Record<string, TypeDescription>> = {
  'struct file': {
    kind: 'struct',
    members: [
      { name: 'f_mode', type: 'fmode_t', bitOffset: 96 },
      { name: 'f_inode', type: 'struct inode *', bitOffset: 256 },
      { name: 'f_flags', type: 'unsigned int', bitOffset: 320 },
      { name: 'f_path', type: 'struct path', bitOffset: 512 },
      {
        name: '',
        type: 'union',
        bitOffset: 640,
        members: [{ name: 'f_pos', type: 'loff_t', bitOffset: 64 }],
      },
      { name: 'f_bits', type: 'unsigned int', bitOffset: 803, bitSize: 5 },
      { name: 'f_name', type: 'char[16]', bitOffset: 832 },
    ],
  },
  'struct inode': { kind: 'struct', members: [{ name: 'i_ino', type: 'unsigned long', bitOffset: 512 }] },
  'struct path': {
    kind: 'struct',
    members: [
      { name: 'mnt', type: 'struct vfsmount *', bitOffset: 0 },
      { name: 'dentry', type: 'struct dentry *', bitOffset: 64 },
    ],
  },
  'struct open_how': {
    kind: 'struct',
    members: [
      { name: 'flags', type: '__u64', bitOffset: 0 },
      { name: 'mode', type: '__u64', bitOffset: 64 },
      { name: 'resolve', type: '__u64', bitOffset: 128 },
    ],
  },
};

const TRACEPOINTS: Readonly<Record<string, Params>> = {
  sched_switch: [
    ['preempt', 'bool'],
    ['prev', 'struct task_struct *'],
    ['next', 'struct task_struct *'],
    ['prev_state', 'unsigned int'],
  ],
  kfree: [
    ['call_site', 'unsigned long'],
    ['ptr', 'const void *'],
  ],
};

const SCHED_SWITCH: Params = [
  ['prev_comm', 'char[16]'],
  ['prev_pid', 'pid_t'],
  ['prev_prio', 'int'],
  ['prev_state', 'long'],
  ['next_comm', 'char[16]'],
  ['next_pid', 'pid_t'],
  ['next_prio', 'int'],
];

function described(params: Params): { name: string; type: string }[] {
  return params.map(([name, type]) => ({ name, type }));
}

/** A simulated system: declared symbols, probes that a test fires. */
export class TestSystem implements TraceArch {
  readonly ncpu = 2;
  readonly symbols: KallsymsSymbol[];
  readonly tracing: Tracing;
  readonly files: Files;
  /** What is armed: by address and kind. */
  readonly armed = new Set<{ readonly address: bigint; readonly ret: boolean; readonly hit: ProbeHit }>();
  readonly modules = new Set(['netfs', '9p']);
  /** Addresses that cannot be armed. */
  readonly unarmable = new Set<bigint>();

  constructor() {
    let address = TEXT;
    this.symbols = SYMBOLS.map(([name, declared]) => {
      const symbol: KallsymsSymbol = {
        name,
        address,
        size: declared.size ?? 0x100,
        module: declared.module,
        entry: declared.entry ?? true,
        blacklisted: declared.blacklisted ?? false,
        ...(declared.params === undefined ? {} : { params: described(declared.params) }),
        ...(declared.returnType === undefined ? {} : { returnType: declared.returnType }),
      };
      address += BigInt(symbol.size + 0xf) & ~0xfn;
      return symbol;
    });
    this.tracing = new Tracing({
      arch: this,
      createBuffer: (ncpu, sizeKb, now) => new RingBuffer(ncpu, sizeKb, now),
    });
    this.tracing.addEvent(schedSwitch());
    this.files = probeFiles.top!(this.tracing);
  }

  now(): bigint {
    return 12_345_678_000n;
  }

  current() {
    return { pid: 42, tgid: 42, comm: 'orc', cpu: 0 };
  }

  lookupSymbol(name: string, module?: string): readonly KallsymsSymbol[] {
    return this.symbols.filter(
      (symbol) => symbol.name === name && (module === undefined || symbol.module === module),
    );
  }

  lookupAddress(address: bigint): KallsymsSymbol | undefined {
    return this.symbols.find(
      (symbol) => address >= symbol.address && address < symbol.address + BigInt(symbol.size),
    );
  }

  hasModule(name: string): boolean {
    return this.modules.has(name);
  }

  functions(): Iterable<KallsymsSymbol> {
    return this.symbols.filter(({ entry }) => entry);
  }

  lookupType(name: string): TypeDescription | undefined {
    return TYPES[name];
  }

  lookupTracepoint(name: string) {
    const params = TRACEPOINTS[name];
    if (params === undefined) return undefined;
    const at = { address: 0xffff_ffff_9000_0000n, ret: false };
    return { params: described(params), address: at.address, arm: (hit: ProbeHit) => this.#arm(at, hit) };
  }

  armProbe(at: { readonly address: bigint; readonly ret: boolean }, hit: ProbeHit) {
    if (this.unarmable.has(at.address)) throw new KernelError('EBUSY', 'the site cannot be armed');
    return this.#arm(at, hit);
  }

  #arm(at: { readonly address: bigint; readonly ret: boolean }, hit: ProbeHit): () => void {
    const armed = { address: at.address, ret: at.ret, hit };
    this.armed.add(armed);
    return () => void this.armed.delete(armed);
  }

  address(name: string): bigint {
    return this.lookupSymbol(name)[0]!.address;
  }

  /** Hits whatever is armed at an address. */
  fire(address: bigint, context: ProbeContext, ret = false): void {
    for (const armed of [...this.armed]) {
      if (armed.address === address && armed.ret === ret) armed.hit(context, 0, 1000n, 42);
    }
  }

  /** Writes a file as `echo -n TEXT > FILE` does, or `>>`. The bytes taken. */
  write(file: string, text: string, append = true): number {
    const flags: OpenFlags = { read: false, write: true, append, truncate: !append, nonblock: false };
    const data = new TextEncoder().encode(text);
    const enable = /^events\/(\w+)\/(\w+)\/enable$/.exec(file);
    if (enable !== null) {
      this.tracing.globalTrace.file(enable[1] as string, enable[2] as string)!.enable(text.trim() === '1');
      return data.length;
    }
    const handle = this.files[file]!.open(flags);
    return data.length === 0 ? 0 : handle.write!(data, 0);
  }

  read(file: string): string {
    const format = /^events\/(\w+)\/(\w+)\/format$/.exec(file);
    if (format !== null) {
      return this.tracing.events.byName(format[1] as string, format[2] as string)?.format() ?? '';
    }
    if (file === 'error_log') return this.tracing.globalTrace.errorLog.show();
    const flags: OpenFlags = { read: true, write: false, append: false, truncate: false, nonblock: false };
    const bytes = this.files[file]!.open(flags).read!(0, 1 << 20) as Uint8Array;
    return new TextDecoder().decode(bytes);
  }

  /** Takes the records of the global trace as its file shows them, without the columns in front. */
  printed(): string[] {
    const { globalTrace } = this.tracing;
    const lines: string[] = [];
    for (
      let record = globalTrace.buffer.consume();
      record !== undefined;
      record = globalTrace.buffer.consume()
    ) {
      const call = this.tracing.events.byId(entryType(record.data))!;
      lines.push(readable(`${call.name}: ${call.print!(record, this.tracing, globalTrace)}`));
    }
    return lines;
  }
}

function schedSwitch(): TraceEventCall {
  let offset = 8;
  const sizes: Readonly<Record<string, number>> = { 'char[16]': 16, long: 8 };
  const fields = SCHED_SWITCH.map(([name, type]) => {
    const size = sizes[type] ?? 4;
    offset = (offset + Math.min(size, 8) - 1) & -Math.min(size, 8);
    const field = {
      name,
      type,
      offset,
      size,
      isSigned: !type.startsWith('char'),
      filterType: type.startsWith('char') ? ('static_string' as const) : ('other' as const),
    };
    offset += size;
    return field;
  });
  return new TraceEventCall({ class: { system: 'sched' }, name: 'sched_switch', fields, printFmt: '""' });
}
