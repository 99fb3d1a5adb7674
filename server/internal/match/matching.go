package match

import "slices"

// matching gives every table a row with a fact of its own; nil when there are
// not enough facts, or the budget is used up.
func (sv *solver) matching(tables []table) []int {
	owner := make(map[int32]int, len(tables)) // fact -> table
	rows := make([]int, len(tables))
	for i := range tables {
		if !sv.augment(tables, i, owner, rows, make(map[int32]bool)) {
			return nil
		}
	}
	return rows
}

// augment finds a row for a table, moving others out of the way (Kuhn's
// algorithm).
func (sv *solver) augment(tables []table, i int, owner map[int32]int, rows []int, seen map[int32]bool) bool {
	for n, r := range tables[i].rows {
		if _, taken := owner[r.fact]; !taken {
			owner[r.fact], rows[i] = i, n
			return true
		}
	}
	if !sv.spend(8 * len(tables[i].rows)) {
		return false
	}
	for n, r := range tables[i].rows {
		if seen[r.fact] {
			continue
		}
		seen[r.fact] = true
		if sv.augment(tables, owner[r.fact], owner, rows, seen) {
			owner[r.fact], rows[i] = i, n
			return true
		}
	}
	return false
}

// consistent tells whether the chosen rows agree about all variables: then
// they are a solution.
func consistent(tables []table, rows []int) bool {
	values := make(map[int]int32)
	for i, t := range tables {
		for place, variable := range t.vars {
			v := t.rows[rows[i]].vals[place]
			if other, ok := values[variable]; ok && other != v {
				return false
			}
			values[variable] = v
		}
	}
	return true
}

// components groups tables that share a fact or an open variable.
func components(tables []table) [][]table {
	parent := make([]int, len(tables))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	last := make(map[int]int) // fact, or variable counted down from -1 -> the last table that has it
	share := func(i, what int) {
		if other, ok := last[what]; ok {
			parent[root(other)] = root(i)
		}
		last[what] = i
	}
	for i, t := range tables {
		for _, r := range t.rows {
			share(i, int(r.fact))
		}
		for place, variable := range t.vars {
			if !fixed(t, place) {
				share(i, -1-variable)
			}
		}
	}
	number := make(map[int]int)
	var groups [][]table
	for i, t := range tables {
		r := root(i)
		if _, ok := number[r]; !ok {
			number[r] = len(groups)
			groups = append(groups, nil)
		}
		groups[number[r]] = append(groups[number[r]], t)
	}
	return groups
}

// fixed tells whether all rows give a variable the same value.
func fixed(t table, place int) bool {
	first := t.rows[0].vals[place]
	return !slices.ContainsFunc(t.rows, func(r row) bool { return r.vals[place] != first })
}
