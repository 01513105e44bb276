import type { SameKeys } from "../shape";
import type en from "./wall.en";

const zh: SameKeys<typeof en> = {};

export default zh;
