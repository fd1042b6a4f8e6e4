// The part of a kernel's symbol table that the recorded cases speak of: what can be probed, what cannot, and what types say.

import { readFileSync } from 'node:fs';

const pointer = (name, type) => ({ name, type: `${type} *` });

/** Functions with their parameters, by name: [size, params, return type, options]. */
const FUNCTIONS = {
  do_sys_openat2: [
    0xe0,
    [{ name: 'dfd', type: 'int' }, pointer('filename', 'const char'), pointer('how', 'struct open_how')],
    'long',
    { address: 0xffffffff81453d90n },
  ],
  __do_sys_openat2: [0x130, [], 'long', { address: 0xffffffff81453e80n, blacklisted: true }],
  __x64_sys_openat: [0xa0, [], 'long'],
  do_syscall_64: [
    0x120,
    [pointer('regs', 'struct pt_regs'), { name: 'nr', type: 'int' }],
    'bool',
    { blacklisted: true },
  ],
  entry_SYSCALL_64_after_hwframe: [0x76, [], undefined, { blacklisted: true }],
  vfs_read: [
    0x3c0,
    [
      pointer('file', 'struct file'),
      pointer('buf', 'char'),
      { name: 'count', type: 'size_t' },
      pointer('pos', 'loff_t'),
    ],
    'ssize_t',
    { address: 0xffffffff81457340n },
  ],
  vfs_write: [
    0x470,
    [
      pointer('file', 'struct file'),
      pointer('buf', 'const char'),
      { name: 'count', type: 'size_t' },
      pointer('pos', 'loff_t'),
    ],
    'ssize_t',
  ],
  vfs_open: [0x120, [pointer('path', 'const struct path'), pointer('file', 'struct file')], 'int'],
  path_openat: [
    0x1200,
    [
      pointer('nd', 'struct nameidata'),
      pointer('op', 'const struct open_flags'),
      { name: 'flags', type: 'unsigned int' },
    ],
    'struct file *',
  ],
  kfree: [0x2a0, [pointer('object', 'const void')], 'void'],
  kernel_clone: [0x4d0, [pointer('args', 'struct kernel_clone_args')], 'pid_t'],
  schedule: [0x110, [], 'void'],
  kmem_cache_free: [0x380, [pointer('s', 'struct kmem_cache'), pointer('x', 'void')], 'void'],
};

/** Functions whose address is taken: they begin with an ENDBR instruction, and their entry is behind it. */
const ENDBR = new Set([
  'vfs_read',
  'vfs_write',
  'vfs_open',
  'kfree',
  'kernel_clone',
  'schedule',
  'kmem_cache_free',
]);

/** More that can be probed, of which nothing else is known. */
const PLAIN =
  `do_exit do_filp_open do_sys_open do_nanosleep filp_close filp_open handle_mm_fault hrtimer_nanosleep
  kmem_cache_alloc_noprof ksys_read ksys_write path_lookupat security_file_open schedule_timeout tcp_connect tcp_recvmsg
  tcp_sendmsg vfs_create vfs_fstat vfs_fsync vfs_getattr vfs_link vfs_mkdir vfs_readlink vfs_rename vfs_rmdir vfs_statx
  vfs_symlink vfs_unlink wake_up_process __kmalloc_noprof __x64_sys_openat2 __x64_sys_read __x64_sys_write`.split(
    /\s+/,
  );

/** Names that a probe cannot sit on. */
const BLACKLISTED = [
  'sched_clock',
  'kprobe_ftrace_handler',
  'asm_exc_int3',
  'asm_exc_divide_error',
  'notifier_call_chain',
  'native_load_idt',
  '__schedule',
  '_stext',
  '_text',
  '_etext',
  'start_kernel',
  'native_write_cr4',
  'native_load_gdt',
  'native_load_tr_desc',
  'native_read_msr',
  'ret_from_fork_asm',
  'rcu_is_watching',
  'ftrace_caller',
  'ftrace_regs_caller',
  '__fentry__',
  'trace_kprobe_create',
  '__memcpy',
  'strlen',
  'early_fixup_exception',
];
/** Names that several functions have. */
const AMBIGUOUS = ['name_show'];
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
};

const NAMES_FILE = new URL('kernel-names.txt', import.meta.url);
/** Modules that are loaded. */
export const MODULES = ['9p', 'netfs'];

const SIZES = {
  u32: 4,
  int: 4,
  'unsigned int': 4,
  fmode_t: 4,
  dev_t: 4,
  umode_t: 2,
  'unsigned short': 2,
  char: 1,
  'unsigned char': 1,
  'struct path': 16,
  'struct qstr': 16,
};

/** A struct by its members in C, laid out in their order; bit fields are of 32 bits. */
function struct(declarations) {
  const members = [];
  let bit = 0;
  for (const declaration of declarations.split('; ')) {
    const [, type, name, count, bits] = /^(.*?)(\w+)(?:\[(\d+)\])?(?::(\d+))?$/.exec(declaration);
    const bare = type.trim();
    const size = 8 * (bare.endsWith('*') ? 8 : (SIZES[bare] ?? 8));
    if (bits === undefined) bit = Math.ceil(bit / Math.min(size, 64)) * Math.min(size, 64);
    members.push({
      name,
      type: count === undefined ? bare : `${bare}[${count}]`,
      bitOffset: bit,
      ...(bits === undefined ? {} : { bitSize: Number(bits) }),
    });
    bit += bits === undefined ? size * Number(count ?? 1) : Number(bits);
  }
  return { kind: 'struct', members };
}

export const TYPES = {
  size_t: { kind: 'alias', type: 'unsigned long' },
  ssize_t: { kind: 'alias', type: 'long' },
  loff_t: { kind: 'alias', type: 'long long' },
  fmode_t: { kind: 'alias', type: 'unsigned int' },
  pid_t: { kind: 'alias', type: 'int' },
  u64: { kind: 'alias', type: 'unsigned long long' },
  __u64: { kind: 'alias', type: 'unsigned long long' },
  'struct open_how': {
    kind: 'struct',
    members: [
      { name: 'flags', type: '__u64', bitOffset: 0 },
      { name: 'mode', type: '__u64', bitOffset: 64 },
      { name: 'resolve', type: '__u64', bitOffset: 128 },
    ],
  },
  umode_t: { kind: 'alias', type: 'unsigned short' },
  dev_t: { kind: 'alias', type: 'unsigned int' },
  'struct path': struct('struct vfsmount *mnt; struct dentry *dentry'),
  'struct vfsmount': struct('struct dentry *mnt_root; struct super_block *mnt_sb; int mnt_flags'),
  'struct qstr': struct('u32 hash; u32 len; const unsigned char *name'),
  'struct dentry': struct(
    'unsigned int d_flags; unsigned int d_seq; void *d_hash[2]; struct dentry *d_parent; struct qstr d_name; ' +
      'struct inode *d_inode; unsigned char d_iname[40]; const struct dentry_operations *d_op; struct super_block *d_sb',
  ),
  'struct inode': struct(
    'umode_t i_mode; unsigned short i_opflags; unsigned int i_uid; unsigned int i_gid; unsigned int i_flags; ' +
      'struct posix_acl *i_acl; struct posix_acl *i_default_acl; const struct inode_operations *i_op; ' +
      'struct super_block *i_sb; struct address_space *i_mapping; void *i_security; unsigned long i_ino; ' +
      'unsigned int i_nlink; dev_t i_rdev; loff_t i_size',
  ),
  'struct super_block': struct(
    'void *s_list[2]; dev_t s_dev; unsigned char s_blocksize_bits; unsigned long s_blocksize; loff_t s_maxbytes; ' +
      'struct file_system_type *s_type; unsigned long s_flags; unsigned long s_iflags; unsigned long s_magic; ' +
      'struct dentry *s_root; char s_id[32]',
  ),
  'struct file_system_type': struct('const char *name; int fs_flags'),
  'struct filename': struct('const char *name; const char *uptr; int refcnt'),
  'struct open_flags': struct('int open_flag; umode_t mode; int acc_mode; int intent; int lookup_flags'),
  'struct nameidata': struct(
    'struct path path; struct qstr last; struct path root; struct inode *inode; unsigned int flags; unsigned int state',
  ),
  'struct kernel_clone_args': struct(
    'u64 flags; int *pidfd; int *child_tid; int *parent_tid; const char *name; int exit_signal; ' +
      'u32 kthread:1; u32 io_thread:1; u32 user_worker:1; u32 no_files:1; unsigned long stack; unsigned long stack_size',
  ),
  // as of Linux 6.12
  'struct file': struct(
    'long f_count; int f_lock; fmode_t f_mode; const struct file_operations *f_op; struct address_space *f_mapping; ' +
      'void *private_data; struct inode *f_inode; unsigned int f_flags; unsigned int f_iocb_flags; ' +
      'const struct cred *f_cred; struct path f_path; long f_pos_lock[4]; loff_t f_pos',
  ),
};

/** Lengths of the first instructions, a hexadecimal digit each. */
const INSTRUCTIONS = {
  vfs_read: '45222211495334656233333a3232759',
  vfs_write: '4522221149532656233333a323275964',
  vfs_open: '45132213343442532243122153333265652444',
  do_sys_openat2: '5231231349525899522259241125353',
};

/** Whether an instruction begins at an offset of a function; undefined where its code is not known. */
export function instructionAt(name, offset) {
  const lengths = INSTRUCTIONS[name];
  if (lengths === undefined) return undefined;
  let at = 0;
  for (const digit of lengths) {
    if (at === offset) return true;
    at += Number.parseInt(digit, 16);
    if (at > offset) return false;
  }
  return undefined;
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

/** The whole table: symbols sorted by address, and the bytes of data. */
export function symbolTable() {
  const symbols = [];
  const memory = [];
  let next = 0xffffffff81100000n;
  const place = (size) => {
    const address = next;
    next += BigInt((size + 0x1f) & ~0xf);
    return address;
  };
  for (const [name, [size, params, returnType, options = {}]] of Object.entries(FUNCTIONS)) {
    symbols.push({
      name,
      size,
      module: undefined,
      params,
      ...(returnType === undefined ? {} : { returnType }),
      address: options.address ?? place(size),
      endbr: ENDBR.has(name),
      ...(options.blacklisted ? { blacklisted: true } : {}),
    });
  }
  for (const name of PLAIN) symbols.push({ name, size: 0x100, module: undefined, address: place(0x100) });
  for (const name of BLACKLISTED)
    symbols.push({ name, size: 0x30, module: undefined, blacklisted: true, address: place(0x30) });
  for (const name of AMBIGUOUS)
    for (let n = 0; n < 2; n++) symbols.push({ name, size: 0x30, module: undefined, address: place(0x30) });
  const taken = new Set(symbols.map(({ name }) => name));
  for (const [kind, names] of kernelNames()) {
    const module = MODULES.includes(kind) ? kind : undefined;
    for (const name of names) {
      if (taken.has(name)) continue;
      const blacklisted = kind === 'refused' ? { blacklisted: true } : {};
      for (let n = 0; n < (kind === 'ambiguous' ? 2 : 1); n++)
        symbols.push({ name, size: 0x30, module, ...blacklisted, address: place(0x30) });
    }
  }
  // Code of the kernel that no function is named in.
  symbols.push({
    name: 'startup_64',
    size: 0x40,
    module: undefined,
    blacklisted: true,
    address: 0xffffffff81000000n,
  });
  let data = 0xffffffff82600000n;
  for (const [name, bytes] of Object.entries(DATA)) {
    symbols.push({
      name,
      size: bytes.length,
      module: undefined,
      blacklisted: true,
      address: data,
      data: true,
    });
    memory.push({ address: data, bytes });
    data += BigInt((bytes.length + 63) & ~63);
  }
  symbols.sort((a, b) => (a.address < b.address ? -1 : 1));
  return { symbols, memory };
}
