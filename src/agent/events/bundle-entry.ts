import { createEvents } from './events.ts';

export default createEvents;
