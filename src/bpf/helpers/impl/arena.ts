/** Pages of arenas (kernel/bpf/arena.c). */
import { Arena } from '../../maps/arena.ts';
import { type HelperContext, type HelperImpl, s32, u32, view } from './context.ts';

function arenaAt(c: HelperContext, map: number): Arena | undefined {
  const found = c.mapAt(map >>> 0);
  return found instanceof Arena ? found : undefined;
}

export const ARENA_KFUNCS: Readonly<Record<string, HelperImpl>> = {
  bpf_arena_alloc_pages(c, map: number, address: bigint, count: bigint, node: bigint, flags: bigint) {
    const arena = arenaAt(c, map);
    const pages =
      arena === undefined || flags !== 0n
        ? 0n
        : arena.allocPages(BigInt.asUintN(64, address), u32(count), s32(node), c.cpu);
    view(c).data.setBigUint64(c.block.resultSlot, pages, true);
    return undefined;
  },
  bpf_arena_free_pages(c, map: number, address: bigint, count: bigint) {
    if (address !== 0n) arenaAt(c, map)?.freePages(address, u32(count), c.cpu);
    return undefined;
  },
};
