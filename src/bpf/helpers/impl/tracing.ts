/** What tracing programs ask of where they are attached (kernel/trace/bpf_trace.c). */
import { fail, type HelperContext, type HelperImpl, s32, u32, u64, view } from './context.ts';

/** struct pt_regs of x86-64 */
const PT_REGS = { ax: 80, ip: 128 } as const;

/** Arguments of the function that a program is attached to. */
function argumentCount({ program }: HelperContext): number {
  const { targetBtf: btf, attachTo } = program;
  const id = attachTo === undefined ? undefined : btf?.byName(attachTo, 'FUNC');
  const func = id === undefined ? undefined : btf!.type(id);
  const proto = func?.kind === 'FUNC' ? btf!.type(func.type) : undefined;
  return proto?.kind === 'FUNC_PROTO' ? proto.params.length : 0;
}

const HAS_RESULT = new Set(['trace_fexit', 'modify_return']);

export const TRACING_HELPERS: Readonly<Record<string, HelperImpl>> = {
  get_func_ip(c, ctx: number) {
    const known = c.runtime.functionAddresses.get(c.program.id);
    if (known !== undefined) return known;
    return c.program.type === 'kprobe' ? view(c).data.getBigUint64((ctx >>> 0) + PT_REGS.ip, true) : 0n;
  },
  get_attach_cookie: (c) => c.runtime.cookies.get(c.program.id) ?? 0n,
  get_func_arg(c, ctx: number, n: bigint, result: number) {
    const index = u32(n);
    if (index >= argumentCount(c)) return fail('EINVAL');
    const { data } = view(c);
    data.setBigUint64(result >>> 0, data.getBigUint64((ctx >>> 0) + index * 8, true), true);
    return 0n;
  },
  get_func_ret(c, ctx: number, result: number) {
    if (!HAS_RESULT.has(c.program.attachType ?? '')) return fail('EOPNOTSUPP');
    const { data } = view(c);
    data.setBigUint64(result >>> 0, data.getBigUint64((ctx >>> 0) + argumentCount(c) * 8, true), true);
    return 0n;
  },
  get_func_arg_cnt: (c) => BigInt(argumentCount(c)),
  override_return(c, ctx: number, value: bigint) {
    view(c).data.setBigUint64((ctx >>> 0) + PT_REGS.ax, u64(value), true);
    c.runtime.tell({ kind: 'override_return', value: u64(value) });
    return 0n;
  },
  get_retval: (c) => BigInt(c.runtime.retvals.get(c.cpu) ?? 0),
  set_retval(c, value: bigint) {
    c.runtime.retvals.set(c.cpu, s32(value));
    return 0n;
  },
  find_vma: (_c, _task: number, _address: bigint, _fn: number, _ctx: number, flags: bigint) =>
    flags === 0n ? fail('ENOENT') : fail('EINVAL'),
  /** Names of symbols are a kernel's: none is known. */
  kallsyms_lookup_name(c, _name: number, _size: number, flags: bigint, result: number) {
    view(c).data.setBigUint64(result >>> 0, 0n, true);
    return flags === 0n ? fail('ENOENT') : fail('EINVAL');
  },
  btf_find_by_name_kind(c, name: number, size: number, kind: bigint, flags: bigint) {
    const { u8 } = view(c);
    const [start, length] = [name >>> 0, size >>> 0];
    if (flags !== 0n || length <= 1 || u8[start + length - 1] !== 0) return fail('EINVAL');
    let text = '';
    for (let at = start; u8[at] !== 0; at++) text += String.fromCharCode(u8[at]!);
    const wanted = s32(kind);
    for (const type of c.program.targetBtf?.types ?? []) {
      if (type.name === text && c.program.targetBtf!.kind(type.id) === wanted) return BigInt(type.id);
    }
    return fail('ENOENT');
  },
};
