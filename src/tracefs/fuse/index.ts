/** Mounting the tracing folder: a FUSE file system on /dev/fuse. */
export { type Mount, type MountOptions, mountObstacle, mountTracefs } from './mount.ts';
export { FuseServer, type FuseServerOptions } from './server.ts';
