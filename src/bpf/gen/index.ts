/** Typed modules for objects: see README.md. */
export { type GenerateOptions, generateSkeleton } from './generate.ts';
export {
  type LoadedSkeleton,
  openSkeleton,
  type Skeleton,
  TypedMap,
  TypedPercpuMap,
} from './skeleton.ts';
export {
  type PerfRecord,
  TypedBloomFilter,
  TypedPerfEventArray,
  TypedQueue,
  TypedRingBuffer,
  TypedStackTraces,
  TypedUserRingBuffer,
} from './skeleton-containers.ts';
export { TypedMapOfMaps, TypedProgArray } from './skeleton-references.ts';
