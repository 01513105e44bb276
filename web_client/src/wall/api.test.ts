import { expect, it } from "vitest";
import { readWall, slotOf } from "./api";

it.each([
  ["", 1],
  ["?screen=3&demo=1", 3],
  ["?screen=9", 1],
  ["?screen=x", 1],
])("the slot of %s is %i", (search, slot) => expect(slotOf(search)).toBe(slot));

it("reads what the display is", () => {
  const wall = readWall({
    screen: { station: "s1", station_name: "Desk", room: "Room 1", number: 2, role: "video" },
    consult: "c1",
    identify: true,
  });
  expect(wall).toEqual({
    screen: { station: "s1", stationName: "Desk", room: "Room 1", number: 2, role: "video" },
    consult: "c1",
    identify: true,
  });
});
