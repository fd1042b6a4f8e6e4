/** Variables and functions of the kernel in a load (BPF_PSEUDO_BTF_ID): their type, and where they are (check_pseudo_btf_id). */
import type { Btf } from '../btf/btf.ts';
import { ERRNO } from '../errors.ts';
import type { Insn } from '../isa.ts';
import { sizeOf, skipModifiers } from './btf-types.ts';
import type { Env, KernelSymbol } from './env.ts';
import { reject } from './error.ts';
import { pointer, type Reg } from './reg.ts';
import { F_PERCPU, F_RDONLY } from './reg-type.ts';

/** Kinds that have members (btf_type_is_struct). */
const isStruct = (kind: string): boolean => kind === 'STRUCT' || kind === 'UNION';

/** Whether a variable is one that every processor has (find_btf_percpu_datasec). */
function isPercpu(btf: Btf, id: number): boolean {
  const section = btf.byName('.data..percpu', 'DATASEC');
  const type = section === undefined ? undefined : btf.type(section);
  return type?.kind === 'DATASEC' && type.vars.some((one) => one.type === id);
}

/** Rejects what has no type that a program may read, and what has no address here. */
export function kernelSymbol(env: Env, insn: Insn, second: Insn): KernelSymbol {
  if (second.imm !== 0) reject('EINVAL', 'invalid module BTF object FD specified.');
  const ref = env.targetBtf;
  if (ref === undefined)
    reject('EINVAL', 'kernel is missing BTF, make sure CONFIG_DEBUG_INFO_BTF=y is specified in Kconfig.');
  const { btf } = ref;
  if (insn.imm <= 0 || !btf.has(insn.imm))
    reject('ENOENT', `ldimm64 insn specifies invalid btf_id ${insn.imm}.`);
  const type = btf.type(insn.imm);
  if (type.kind !== 'VAR' && type.kind !== 'FUNC')
    reject('EINVAL', `pseudo btf_id ${insn.imm} in ldimm64 isn't KIND_VAR or KIND_FUNC`);
  const { name } = type;
  const address = env.input.ksyms?.get(name);
  if (address === undefined)
    reject('ENOENT', `ldimm64 failed to find the address for kernel symbol '${name}'.`);
  const rdonly = (size: number): Reg => {
    const reg = pointer('mem');
    reg.flags = F_RDONLY;
    reg.memSize = size;
    return reg;
  };
  if (type.kind === 'FUNC') return { reg: rdonly(0), address };
  const id = skipModifiers(btf, type.type);
  const percpu = isPercpu(btf, insn.imm);
  if (!percpu && !isStruct(btf.type(id).kind)) {
    const size = sizeOf(btf, id);
    if (size === 0)
      reject('EINVAL', `ldimm64 unable to resolve the size of type '${btf.name(id)}': ${-ERRNO.EINVAL}`);
    return { reg: rdonly(size), address };
  }
  const reg = pointer('ptr_');
  reg.btf = ref;
  reg.btfId = id;
  reg.flags = percpu ? F_PERCPU : 0;
  return { reg, address };
}
