package main

import (
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// colours that colour-blind readers tell apart (Okabe and Ito), ephemera's first.
var colours = []color.Color{
	color.RGBA{0xd5, 0x5e, 0x00, 0xff},
	color.RGBA{0x00, 0x72, 0xb2, 0xff},
	color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	color.RGBA{0x56, 0xb4, 0xe9, 0xff},
	color.RGBA{0x99, 0x99, 0x99, 0xff},
	color.RGBA{0, 0, 0, 0xff},
}

var shapes = []draw.GlyphDrawer{
	draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.CrossGlyph{}, draw.PlusGlyph{},
}

// drawPlots writes the plots.
func drawPlots(all map[string]figures) error {
	err := lines("dial.svg", "A dial to one destination while its ports fill up", "ports held", "p50, µs", dialColumns,
		[]string{"0", "50", "80", "90", "99", "99.9"}, all["dial"].scaled(1000), "p50-ns", false,
		func(c, fill string) string { return "Dial/held=" + fill + "/impl=" + c })
	if err != nil {
		return err
	}
	err = lines("alloc.svg", "Acquire + release of one of 64,512 ports", "ports held", "ns", without(allocColumns, "model"), fills, all["alloc"], "ns/op", true,
		func(c, fill string) string { return "AcquireRelease/impl=" + c + "/fill=" + fill + "/goroutines=1" })
	if err != nil {
		return err
	}
	return memoryBars("memory.svg", all["memory"])
}

func without(columns []column, name string) []column {
	return slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return c.name == name })
}

func frame(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.TextStyle.Font.Size, p.Title.Padding = 14, 8
	p.X.Label.TextStyle.Font.Size, p.Y.Label.TextStyle.Font.Size = 12, 12
	p.X.Tick.Label.Font.Size, p.Y.Tick.Label.Font.Size = 11, 11
	p.Legend.TextStyle.Font.Size = 11
	p.BackgroundColor = color.White
	return p
}

// lines draws one line a contender over the shares of ports held, on a logarithmic scale.
func lines(file, title, x, y string, columns []column, at []string, f figures, unit string, legendOnTop bool, name func(c, at string) string) error {
	p := frame(title, x, y)
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	var ticks []plot.Tick
	for i, label := range at {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: label + " %"})
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = nil, color.Gray{0xe0}
	p.Add(grid)
	drawn := false
	for i, c := range columns {
		var points plotter.XYs
		for j, label := range at {
			if v, ok := f.median(name(c.name, label), unit); ok {
				points = append(points, plotter.XY{X: float64(j), Y: v})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = colours[i], 1.5
		if i == 0 {
			line.Width = 3
		}
		marks.Color, marks.Shape, marks.Radius = colours[i], shapes[i], 3.5
		p.Add(line, marks)
		p.Legend.Add(c.title, line, marks)
		drawn = true
	}
	if !drawn {
		return nil // a logarithmic scale needs a figure
	}
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(p.Y.Min))), math.Pow(10, math.Ceil(math.Log10(p.Y.Max)))
	p.X.Max += 0.2 // room for the last label
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = legendOnTop, true, 3
	return p.Save(8*vg.Inch, 4.5*vg.Inch, plots+file)
}

// memoryBars draws what a destination of one tuple takes.
func memoryBars(file string, f figures) error {
	p := frame("Live heap per destination of one tuple, of 1,000,000", "", "bytes")
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = nil, color.Gray{0xe0}
	p.Add(grid)
	columns := without(tupleColumns, "ephemera-any") // which takes the same
	for i, family := range []string{"ipv4", "ipv6"} {
		var values plotter.Values
		for _, c := range columns {
			v, _ := f.median("Memory/impl="+c.name+"/family="+family+"/shape=sparse", "B/tuple")
			values = append(values, v)
		}
		chart, err := plotter.NewBarChart(values, vg.Points(24))
		if err != nil {
			return err
		}
		chart.Color, chart.LineStyle.Width, chart.Offset = colours[i], 0, vg.Length(26*i-13)
		p.Add(chart)
		p.Legend.Add("IPv"+strconv.Itoa(4+2*i), chart)
	}
	var names []string
	for _, c := range columns {
		names = append(names, c.title)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(columns))-0.5
	p.Legend.Top, p.Legend.Left = true, true
	return p.Save(8*vg.Inch, 4*vg.Inch, plots+file)
}
