import { createRequire } from 'node:module';

/** What the running kernel says of BTF: undefined where it takes it, else the errno and its log (up to 1 MB: none for large BTF). */
export type KernelBtfCheck = (
  bytes: Uint8Array,
  logLevel?: 0 | 1,
) => { errno: number; log: string } | undefined;

/** BPF_BTF_LOAD through koffi, as root; undefined where that cannot be. */
export function kernelBtfCheck(): KernelBtfCheck | undefined {
  if (process.getuid?.() !== 0 || process.platform !== 'linux' || process.arch !== 'x64') return undefined;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const libc = koffi.load('libc.so.6');
    const syscall = libc.func('long syscall(long n, long a, void *b, unsigned long c)');
    const close = libc.func('int close(int fd)');
    const BPF = 321;
    const BPF_BTF_LOAD = 18;
    const log = Buffer.alloc(1 << 20);
    const check: KernelBtfCheck = (bytes, logLevel = 1) => {
      const copy = Buffer.from(bytes);
      const attr = Buffer.alloc(40);
      attr.writeBigUInt64LE(koffi.address(copy), 0);
      attr.writeUInt32LE(copy.length, 16);
      if (logLevel > 0) {
        attr.writeBigUInt64LE(koffi.address(log), 8);
        attr.writeUInt32LE(log.length, 20);
        attr.writeUInt32LE(logLevel, 24);
      }
      log[0] = 0;
      const fd = Number(syscall(BPF, BPF_BTF_LOAD, attr, attr.length));
      if (fd >= 0) {
        close(fd);
        return undefined;
      }
      return { errno: koffi.errno(), log: log.toString('latin1', 0, log.indexOf(0)) };
    };
    // Nothing to load at all: any other error is a kernel or a container without bpf(2).
    return check(new Uint8Array(24))?.errno === 22 ? check : undefined;
  } catch {
    return undefined;
  }
}
