/** How a field of type `gfp_t` is spelt out (__def_gfpflag_names, include/trace/events/mmflags.h; bits of include/linux/gfp_types.h). */

import { type FlagName, printFlags } from '../print-flags.ts';

const BITS = [
  'DMA',
  'HIGHMEM',
  'DMA32',
  'MOVABLE',
  'RECLAIMABLE',
  'HIGH',
  'IO',
  'FS',
  'ZERO',
  undefined,
  'DIRECT_RECLAIM',
  'KSWAPD_RECLAIM',
  'WRITE',
  'NOWARN',
  'RETRY_MAYFAIL',
  'NOFAIL',
  'NORETRY',
  'MEMALLOC',
  'COMP',
  'NOMEMALLOC',
  'HARDWALL',
  'THISNODE',
  'ACCOUNT',
  'ZEROTAGS',
] as const;

type Bit = Exclude<(typeof BITS)[number], undefined>;

function bits(...names: readonly Bit[]): bigint {
  return names.reduce((mask, name) => mask | (1n << BigInt(BITS.indexOf(name))), 0n);
}

const RECLAIM = bits('DIRECT_RECLAIM', 'KSWAPD_RECLAIM');
const KERNEL = RECLAIM | bits('IO', 'FS');
const USER = KERNEL | bits('HARDWALL');
const HIGHUSER = USER | bits('HIGHMEM');
const HIGHUSER_MOVABLE = HIGHUSER | bits('MOVABLE');
const TRANSHUGE_LIGHT = (HIGHUSER_MOVABLE | bits('COMP', 'NOMEMALLOC', 'NOWARN')) & ~RECLAIM;

const single = (...names: readonly Bit[]): FlagName[] =>
  names.map((name) => ({ value: bits(name), text: `__GFP_${name}` }));

/** Most bits first, as the kernel has them. */
const NAMES: readonly FlagName[] = [
  { value: TRANSHUGE_LIGHT | bits('DIRECT_RECLAIM'), text: 'GFP_TRANSHUGE' },
  { value: TRANSHUGE_LIGHT, text: 'GFP_TRANSHUGE_LIGHT' },
  { value: HIGHUSER_MOVABLE, text: 'GFP_HIGHUSER_MOVABLE' },
  { value: HIGHUSER, text: 'GFP_HIGHUSER' },
  { value: USER, text: 'GFP_USER' },
  { value: KERNEL | bits('ACCOUNT'), text: 'GFP_KERNEL_ACCOUNT' },
  { value: KERNEL, text: 'GFP_KERNEL' },
  { value: RECLAIM | bits('IO'), text: 'GFP_NOFS' },
  { value: bits('HIGH', 'KSWAPD_RECLAIM'), text: 'GFP_ATOMIC' },
  { value: RECLAIM, text: 'GFP_NOIO' },
  { value: bits('KSWAPD_RECLAIM', 'NOWARN'), text: 'GFP_NOWAIT' },
  { value: bits('DMA'), text: 'GFP_DMA' },
  ...single('HIGHMEM'),
  { value: bits('DMA32'), text: 'GFP_DMA32' },
  ...single('HIGH', 'IO', 'FS', 'NOWARN', 'RETRY_MAYFAIL', 'NOFAIL', 'NORETRY', 'COMP', 'ZERO'),
  ...single('NOMEMALLOC', 'MEMALLOC', 'HARDWALL', 'THISNODE', 'RECLAIMABLE', 'MOVABLE', 'ACCOUNT', 'WRITE'),
  { value: RECLAIM, text: '__GFP_RECLAIM' },
  ...single('DIRECT_RECLAIM', 'KSWAPD_RECLAIM', 'ZEROTAGS'),
];

/** `GFP_KERNEL|__GFP_ZERO`; what has no name is left in hexadecimal. */
export function gfpFlagsText(value: bigint): string {
  return printFlags(value, '|', NAMES);
}
