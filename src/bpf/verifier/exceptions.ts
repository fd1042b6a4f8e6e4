import { BTF_KIND_DECL_TAG } from '../btf/kinds.ts';
import { reject } from './error.ts';
import type { FuncInfo, ProgramInput } from './types.ts';

const PREFIX = 'exception_callback:';

/** The function that `__exception_cb(name)`, a tag of the program's own, names (bpf_find_exception_callback_insn_off). */
export function exceptionCallback({ btf, funcInfo }: ProgramInput): FuncInfo | undefined {
  if (btf === undefined || funcInfo === undefined || funcInfo.length === 0) return undefined;
  let found: FuncInfo | undefined;
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) !== BTF_KIND_DECL_TAG || btf.word(id, 2) !== funcInfo[0]!.typeId) continue;
    const tag = btf.name(id);
    if (!tag.startsWith(PREFIX)) continue;
    if (found !== undefined) reject('EINVAL', 'multiple exception callback tags for main subprog');
    const name = tag.slice(PREFIX.length);
    found = funcInfo.find(({ typeId }) => btf.has(typeId) && btf.name(typeId) === name);
    if (found === undefined) reject('EINVAL', `exception callback '${name}' could not be found in BTF`);
  }
  return found;
}
