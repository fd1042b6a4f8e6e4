/** Typed modules for objects: see README.md. */
export { type GenerateOptions, generateSkeleton } from './generate.ts';
export {
  type LoadedSkeleton,
  openSkeleton,
  type Skeleton,
  type SkeletonMapKind,
  TypedMap,
  TypedPercpuMap,
} from './skeleton.ts';
export { TypedQueue, TypedRingBuffer } from './skeleton-containers.ts';
