/** Memory given to helpers and kfuncs (check_helper_mem_access of kernel/bpf/verifier.c). */
import { checkBtfAccess } from './btf-access.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { checkMapAccess, checkMapAccessType, checkRegion } from './map-access.ts';
import { checkBuffer, checkCtxAccess, checkPacketAccess } from './memory.ts';
import type { Reg } from './reg.ts';
import { F_RDONLY } from './reg-type.ts';
import { checkStackInitialized, stackBounds } from './stack.ts';

/** How a helper uses memory: reads, writes what was initialised, writes all of it whatever was there. */
export type HelperAccess = 'read' | 'write' | 'uninit';

/**
 * check_helper_mem_access: `size` bytes at register `regno`. Gives true when a stack range has still to be marked as written
 * (raw mode), after all arguments were checked.
 */
export function checkHelperMem(
  env: Env,
  regno: number,
  size: number,
  zeroAllowed: boolean,
  access: HelperAccess,
): boolean {
  const reg = env.frame.regs[regno]!;
  const write = access !== 'read';
  switch (reg.type) {
    case 'pkt':
    case 'pkt_meta':
      checkPacketAccess(reg, regno, reg.off, size, zeroAllowed);
      return false;
    case 'map_value':
      if (reg.nullable) break;
      checkMapAccessType(env, reg, reg.off, size, write);
      checkMapAccess(env, reg, regno, reg.off, size, zeroAllowed, true);
      return false;
    case 'map_key':
      if (write) reject('EACCES', `R${regno} cannot write into ${reg.typeName}`);
      checkRegion(reg, regno, reg.off, size, env.maps[reg.map]!.keySize, zeroAllowed);
      return false;
    case 'mem':
      if (reg.nullable) break;
      if (write && (reg.flags & F_RDONLY) !== 0)
        reject('EACCES', `R${regno} cannot write into ${reg.typeName}`);
      checkRegion(reg, regno, reg.off, size, reg.memSize, zeroAllowed);
      return false;
    case 'buf':
      if (reg.nullable) break;
      if (write && (reg.flags & F_RDONLY) !== 0)
        reject('EACCES', `R${regno} cannot write into ${reg.typeName}`);
      checkBuffer(reg, regno, reg.off, size, (reg.flags & F_RDONLY) !== 0 ? 'rdonly' : 'rdwr');
      return false;
    case 'ptr_':
      if (reg.nullable) break;
      checkBtfAccess(env, reg, regno, reg.off, size, false);
      return false;
    case 'ctx':
      if (env.input.type === 'syscall') {
        if (size === 0) {
          if (!zeroAllowed) reject('EACCES', `R${regno} invalid zero-sized read`);
          return false;
        }
        const last = { regno, off: size - 1, size: 1, write, value: -1 } as const;
        checkCtxAccess(env, reg, last);
        return false;
      }
      break;
    case 'fp': {
      if (size === 0 && !zeroAllowed) reject('EACCES', 'invalid zero-sized read');
      const { min, max } = stackBounds(env, reg, regno, reg.off, size, true, true);
      if (size === 0) return false;
      if (access === 'uninit' && reg.isConst) {
        checkDynptrOverlap(env, reg, min, min + size);
        return true;
      }
      checkStackInitialized(env, reg, regno, reg.off, min, max + size, size, true, write);
      return false;
    }
    default:
  }
  if (zeroAllowed && size === 0 && reg.isNull) return false;
  return reject('EACCES', `R${regno} type=${reg.typeName} expected=fp`);
}

/** Helpers do not write into dynptrs. */
function checkDynptrOverlap(env: Env, reg: Reg, min: number, end: number): void {
  const frame = env.state.frames[reg.frame]!;
  for (let at = min; at < end; at++) {
    if (frame.stack[(-at - 1) >> 3]?.object?.is === 'dynptr')
      reject('EACCES', `potential write to dynptr at off=${at} disallowed`);
  }
}
