export type {
  BpfAttrs,
  BpfCommand,
  BtfInfo,
  LinkInfo,
  MapInfo,
  ObjectInfo,
  ProgInfo,
} from './attrs.ts';
export { bpf, closeFd, unpin } from './bpf.ts';
