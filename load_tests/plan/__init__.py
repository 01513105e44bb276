"""What a run will do, without clock or I/O: scenario files, behaviours, lines, and the timetable they become."""
