import { BTF_KIND_DECL_TAG } from '../btf/kinds.ts';
import { reject } from './error.ts';
import type { FuncInfo, ProgramInput } from './types.ts';

const PREFIX = 'exception_callback:';

/** The function that `__exception_cb(name)`, a tag of the program's own, names (bpf_find_exception_callback_insn_off). */
export function exceptionCallback({ btf, funcInfo }: ProgramInput): FuncInfo | undefined {
  if (btf === undefined || funcInfo === undefined || funcInfo.length === 0) return undefined;
  let tagged: string | undefined;
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) !== BTF_KIND_DECL_TAG || btf.word(id, 2) !== funcInfo[0]!.typeId) continue;
    const tag = btf.name(id);
    if (!tag.startsWith(PREFIX)) continue;
    if (tagged !== undefined) reject('EEXIST', 'multiple exception callback tags for main subprog');
    tagged = tag.slice(PREFIX.length);
  }
  if (tagged === undefined) return undefined;
  const found = funcInfo.find(({ typeId }) => btf.has(typeId) && btf.name(typeId) === tagged);
  if (found === undefined) reject('EINVAL', `exception callback '${tagged}' could not be found in BTF`);
  return found;
}
