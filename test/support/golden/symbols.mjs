// The part of a kernel's symbol table that the recorded cases speak of: what can be probed, and what cannot.

import { readFileSync } from 'node:fs';
import { functionTypes } from './kernel-types.mjs';

/** Functions of which sizes, and some addresses, are known: [size, options]. */
const FUNCTIONS = {
  do_sys_openat2: [0xe0, { address: 0xffffffff81453d90n }],
  __do_sys_openat2: [0x130, { address: 0xffffffff81453e80n, blacklisted: true }],
  __x64_sys_openat: [0xa0],
  do_syscall_64: [0x120, { blacklisted: true }],
  entry_SYSCALL_64_after_hwframe: [0x76, { blacklisted: true }],
  vfs_read: [0x370, { address: 0xffffffff81457340n }],
  vfs_write: [0x450],
  vfs_open: [0xf0],
  do_exit: [0xaf0],
  path_openat: [0x12f0],
  kfree: [0x370],
  kernel_clone: [0x430],
  schedule: [0xc0],
  kmem_cache_free: [0x450],
};

/** More that can be probed, of which nothing else is known. */
const PLAIN = `do_filp_open do_sys_open do_nanosleep filp_close filp_open handle_mm_fault hrtimer_nanosleep
  kmem_cache_alloc_noprof ksys_read ksys_write path_lookupat security_file_open schedule_timeout tcp_connect tcp_recvmsg
  tcp_sendmsg vfs_create vfs_fstat vfs_fsync vfs_getattr vfs_link vfs_mkdir vfs_readlink vfs_rename vfs_rmdir vfs_statx
  vfs_symlink vfs_unlink wake_up_process __kmalloc_noprof __x64_sys_openat2 __x64_sys_read __x64_sys_write`.split(
  /\s+/,
);

/** Data: addresses for `@NAME`, no code. */
const DATA = {
  jiffies: new Uint8Array(8).fill(1),
  linux_banner: new TextEncoder().encode(
    'Linux version 6.12.117+deb12-amd64 (debian-kernel@lists.debian.org) (x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14+deb12u1) ' +
      '12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-14)\n\0',
  ),
  modprobe_path: new TextEncoder().encode('/sbin/modprobe'.padEnd(256, '\0')),
  jiffies_64: new Uint8Array(8).fill(1),
  init_task: new Uint8Array(64),
  x: new Uint8Array(4),
};

const INSTRUCTIONS_FILE = new URL('kernel-instructions.txt', import.meta.url);
/** Of names that a kprobe cannot sit on: most of them nothing else can trace either. */
const REFUSED = {
  refused: { blacklisted: true, entry: false },
  'refused to kprobes': { blacklisted: true },
};
const SYSCALLS_FILE = new URL('kernel-syscalls.txt', import.meta.url);
const NAMES_FILE = new URL('kernel-names.txt', import.meta.url);
/** Modules that are loaded. */
export const MODULES = ['9p', 'netfs'];

/** Lengths of ENDBR and of the call that tracing patches: functions whose address is taken begin with both. */
const ENDBR = '45';

/** Whether an instruction begins at an offset of a function; undefined where its code is not known. */
export function instructionAt(name, offset) {
  const lengths = instructions().get(name);
  if (lengths === undefined) return undefined;
  let at = 0;
  for (const digit of lengths) {
    if (at >= offset) break;
    at += Number.parseInt(digit, 16);
  }
  return at === offset;
}

let lengths;
/** Functions whose code is known, by name: the length of each instruction, a hexadecimal digit each. */
function instructions() {
  lengths ??= new Map(
    readFileSync(INSTRUCTIONS_FILE, 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.split(' ')),
  );
  return lengths;
}

let syscalls;
/** `sys_read` for 0; undefined where the number has no call. */
export function syscallName(number) {
  if (syscalls === undefined) {
    syscalls = new Map();
    let next = 0;
    for (const line of readFileSync(SYSCALLS_FILE, 'utf8').split('\n')) {
      if (line.startsWith('#')) continue;
      for (const word of line.split(' ')) {
        if (/^\d/.test(word)) next = Number(word);
        else if (word !== '') syscalls.set(next++, `sys_${word}`);
      }
    }
  }
  return syscalls.get(number);
}

/** Names alone, by kind: `kernel-names.txt`. */
function kernelNames() {
  const kinds = new Map();
  let names;
  for (const line of readFileSync(NAMES_FILE, 'utf8').split('\n')) {
    const kind = /^\[(.*)\]$/.exec(line)?.[1];
    if (kind !== undefined) {
      names = [];
      kinds.set(kind, names);
    } else if (line !== '' && !line.startsWith('#')) names.push(...line.split(' '));
  }
  return kinds;
}

/** The whole table: symbols with their types, sorted by address, and the bytes of data. */
export function symbolTable() {
  const symbols = placedSymbols();
  for (const symbol of symbols) if (!symbol.data) Object.assign(symbol, functionTypes(symbol.name));
  const memory = symbols
    .filter(({ data }) => data)
    .map(({ name, address }) => ({ address, bytes: DATA[name] }));
  return { symbols, memory };
}

/** Symbols sorted by address. */
export function placedSymbols() {
  const symbols = [];
  let next = 0xffffffff81100000n;
  const place = (size) => {
    const address = next;
    next += BigInt((size + 0x1f) & ~0xf);
    return address;
  };
  for (const [name, [size, options = {}]] of Object.entries(FUNCTIONS)) {
    symbols.push({
      name,
      size,
      module: undefined,
      address: options.address ?? place(size),
      endbr: instructions().get(name)?.startsWith(ENDBR) === true,
      ...(options.blacklisted ? { blacklisted: true, entry: false } : {}),
    });
  }
  for (const name of PLAIN) symbols.push({ name, size: 0x100, module: undefined, address: place(0x100) });
  const taken = new Set(symbols.map(({ name }) => name));
  for (const [kind, names] of kernelNames()) {
    const module = MODULES.includes(kind) ? kind : undefined;
    for (const name of names) {
      if (taken.has(name)) continue;
      const kprobes = REFUSED[kind] ?? {};
      for (let n = 0; n < (kind === 'ambiguous' ? 2 : 1); n++)
        symbols.push({ name, size: 0x30, module, ...kprobes, address: place(0x30) });
    }
  }
  // Code of the kernel that no function is named in.
  symbols.push({
    name: 'startup_64',
    size: 0x40,
    module: undefined,
    blacklisted: true,
    entry: false,
    address: 0xffffffff81000000n,
  });
  let data = 0xffffffff82600000n;
  for (const [name, bytes] of Object.entries(DATA)) {
    symbols.push({
      name,
      size: bytes.length,
      module: undefined,
      blacklisted: true,
      entry: false,
      address: data,
      data: true,
    });
    data += BigInt((bytes.length + 63) & ~63);
  }
  symbols.sort((a, b) => (a.address < b.address ? -1 : 1));
  return symbols;
}
