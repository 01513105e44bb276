import type { SameKeys } from "../shape";
import type en from "./desk.en";

const zh: SameKeys<typeof en> = {};

export default zh;
