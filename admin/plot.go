package admin

import "strconv"

// A chart is two SVG images, the axis and the bars. Their geometry is in percent, so that they fit any
// width and their text keeps its size. A table of the same numbers follows. Counts by name are shown as
// a table with a bar in each row.

// chart is a bar chart over time.
type chart struct {
	Title   string
	Bars    []bar
	Lines   []label // of the axis: Y and Text
	Labels  []label // below the bars: X and Text
	Rows    []chartRow
	Columns []string
}

// bar is a rectangle, in percent of the image. Class is a class of the stylesheet.
type bar struct {
	X, Y, Width, Height float64
	Class               string
}

// label is a text. A Minor one is left out on narrow screens.
type label struct {
	X, Y  float64
	Text  string
	Minor bool
}

// chartRow is a row of the chart's table.
type chartRow struct {
	Name   string
	Values []string
}

const (
	chartTop    = 5  // percent of the height above the highest bar
	chartBottom = 88 // percent of the height above the bottom of the bars
	barGap      = 0.22
)

// chartParts draws the SMS and confirmations of each part of a period. Parts 0, every, 2*every and so
// on have a label.
func chartParts(s *summary, every int) *chart {
	c := &chart{Title: "SMS and confirmations", Columns: []string{"accepted", "confirmed", "not sent"}}
	top := int64(0)
	for i := range s.Parts {
		top = max(top, s.Parts[i].Sent)
	}
	scale := axis(c, top)
	const all, two = 100, 2
	step := all / float64(len(s.Parts))
	for i := range s.Parts {
		part := &s.Parts[i]
		x := (float64(i) + barGap/two) * step
		stack := func(y float64, n int64, class string) float64 {
			if height := float64(n) * scale; height > 0 {
				c.Bars = append(c.Bars, bar{x, y - height, step * (1 - barGap), height, class})
				return y - height
			}
			return y
		}
		y := stack(chartBottom, part.Accepted+part.Unknown, "sent")
		stack(y, part.Failed+part.Rejected, "failed")
		stack(chartBottom, min(part.Confirmed, part.Accepted+part.Unknown), "confirmed")
		if i%every == 0 {
			c.Labels = append(c.Labels, label{X: (float64(i) + 1./two) * step, Text: s.label(i), Minor: i/every%two == 1})
		}
		if part.Sent+part.Confirmed > 0 {
			c.Rows = append(c.Rows, chartRow{s.label(i), []string{count(part.Accepted + part.Unknown), count(part.Confirmed), count(part.Failed + part.Rejected)}})
		}
	}
	return c
}

// axis draws lines at round numbers, and returns the height of one SMS, in percent.
func axis(c *chart, top int64) float64 {
	step := roundStep(max(top, 1))
	most := (max(top, 1) + step - 1) / step * step
	scale := (chartBottom - chartTop) / float64(most)
	for n := int64(0); n <= most; n += step {
		c.Lines = append(c.Lines, label{Y: chartBottom - float64(n)*scale, Text: short(n)})
	}
	return scale
}

// short writes a round number in few characters, such as 20k.
func short(n int64) string {
	const thousand, million = 1000, 1_000_000
	switch {
	case n >= million:
		return strconv.FormatFloat(float64(n)/million, 'f', -1, 64) + "M"
	case n >= 10*thousand:
		return strconv.FormatInt(n/thousand, 10) + "k"
	}
	return count(n)
}

// roundStep returns the smallest step that reaches top in at most five steps: 1, 2 or 5 times a power of ten.
func roundStep(top int64) int64 {
	const steps, ten = 5, 10
	for power := int64(1); ; power *= ten {
		for _, digit := range []int64{1, 2, 5} {
			if digit*power*steps >= top {
				return digit * power
			}
		}
	}
}

// bars are a table with a bar in each row.
type bars struct {
	Title, Name, Unit string // the title of the table, and the names of its columns
	Class             string
	Rows              []barRow
}

type barRow struct {
	Name  string
	Note  string
	Count int64
	Width float64 // in percent
}

// barsOf draws a bar for each count. note explains a name; it may be nil.
func barsOf(b bars, list []named, note func(name string) string) *bars {
	top := int64(1)
	for _, one := range list {
		top = max(top, one.Count)
	}
	const all = 100
	for _, one := range list {
		row := barRow{Name: one.Name, Count: one.Count, Width: all * float64(one.Count) / float64(top)}
		if note != nil {
			if row.Note = note(one.Name); row.Note == one.Name {
				row.Note = ""
			}
		}
		b.Rows = append(b.Rows, row)
	}
	return &b
}

// barsOfTimes draws how many confirmations took how long.
func barsOfTimes(s *summary) *bars {
	list := make([]named, 0, len(s.Times))
	for _, t := range s.Times {
		list = append(list, named{boundWords(t.Name), t.Count})
	}
	return barsOf(bars{Title: "Time from SMS to confirmation", Name: "Time", Unit: "Confirmations", Class: "confirmed"}, list, nil)
}

// barsOfReasons draws why requests were refused.
func barsOfReasons(s *summary) *bars {
	const most = 12
	list := s.Reasons[:min(most, len(s.Reasons))]
	return barsOf(bars{Title: "Refusals by reason", Name: "Reason", Unit: "Requests", Class: "failed"}, list, reasonWords)
}
