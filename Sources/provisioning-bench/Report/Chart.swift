import Glibc

/// How values lie along an axis: even, or by powers of ten.
struct AxisScale {
    let isLogarithmic: Bool
    let lowest: Double
    let highest: Double

    /// Takes in all values: from 0 on, or from the power of ten below the smallest to the one above the greatest.
    init(_ values: [Double], isLogarithmic: Bool) {
        self.isLogarithmic = isLogarithmic
        let greatest = values.max() ?? 1
        if isLogarithmic {
            let positive = values.filter { $0 > 0 }
            lowest = pow(10, log10(positive.min() ?? 1).rounded(.down))
            highest = max(lowest * 10, pow(10, log10(positive.max() ?? 10).rounded(.up)))
        } else {
            lowest = 0
            let step = Self.step(greatest)
            highest = max(step, (greatest / step).rounded(.up) * step)
        }
    }

    /// Where a value lies, from 0 to 1.
    func place(_ value: Double) -> Double {
        guard isLogarithmic else { return (value - lowest) / (highest - lowest) }
        return value <= lowest ? 0 : log10(value / lowest) / log10(highest / lowest)
    }

    /// Round values along the axis.
    var ticks: [Double] {
        var ticks: [Double] = []
        var tick = lowest
        let step = Self.step(highest)
        while tick <= highest * 1.000_1 {
            ticks.append(tick)
            tick = isLogarithmic ? tick * 10 : tick + step
        }
        return ticks
    }

    /// 1, 2 or 5 times a power of ten, so that there are about five ticks.
    private static func step(_ highest: Double) -> Double {
        guard highest > 0 else { return 1 }
        let raw = highest / 5
        let power = pow(10, log10(raw).rounded(.down))
        return power * ([1, 2, 5, 10].first { $0 * power >= raw * 0.999 } ?? 10)
    }
}

/// Lines through points, with axes and a legend.
struct LineChart {
    struct Series {
        let name: String
        let points: [(x: Double, y: Double)]
    }

    var title: String
    var xLabel: String
    var yLabel: String
    var isXLogarithmic = false
    var hasDots = true
    var series: [Series]

    static let colors = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"]
    private static let frame = (left: 80.0, top: 50.0, width: 560.0, height: 330.0)

    var svg: String {
        var sheet = SVG(width: 920, height: 450)
        let frame = Self.frame
        let x = AxisScale(series.flatMap { $0.points.map(\.x) }, isLogarithmic: isXLogarithmic)
        let y = AxisScale(series.flatMap { $0.points.map(\.y) }, isLogarithmic: false)
        let bottom = frame.top + frame.height
        sheet.text(title, frame.left, 28, size: 16)
        for tick in y.ticks {
            let place = bottom - y.place(tick) * frame.height
            sheet.line(frame.left, place, frame.left + frame.width, place, color: "#ddd")
            sheet.text(Decimals.text(tick), frame.left - 8, place + 4, anchor: .end)
        }
        for tick in x.ticks {
            let place = frame.left + x.place(tick) * frame.width
            sheet.line(place, bottom, place, bottom + 5)
            sheet.text(Decimals.text(tick), place, bottom + 20, anchor: .middle)
        }
        sheet.line(frame.left, bottom, frame.left + frame.width, bottom)
        sheet.text(xLabel, frame.left + frame.width / 2, bottom + 42, anchor: .middle)
        sheet.text(yLabel, 12, frame.top - 10)
        for (index, line) in series.enumerated() {
            let color = Self.colors[index % Self.colors.count]
            let points = line.points.map {
                (frame.left + x.place($0.x) * frame.width, bottom - y.place($0.y) * frame.height)
            }
            sheet.path(points, color: color)
            if hasDots { for point in points { sheet.dot(point.0, point.1, color: color) } }
            let height = frame.top + Double(index) * 20
            sheet.line(frame.left + frame.width + 15, height, frame.left + frame.width + 40, height, color: color)
            sheet.text(line.name, frame.left + frame.width + 46, height + 4)
        }
        return sheet.text
    }
}

/// Bars that lie, one below the other, each with its name and its value.
struct BarChart {
    var title: String
    var unit: String
    var bars: [(name: String, value: Double)]

    var svg: String {
        let (left, width, step) = (330.0, 480.0, 24.0)
        var sheet = SVG(width: 920, height: Int(70 + step * Double(bars.count)))
        sheet.text("\(title) (\(unit))", 12, 28, size: 16)
        let scale = AxisScale(bars.map(\.value), isLogarithmic: false)
        for (index, bar) in bars.enumerated() {
            let top = 48 + Double(index) * step
            sheet.text(bar.name, left - 8, top + 14, anchor: .end)
            sheet.bar(
                left, top, scale.place(bar.value) * width, step - 6,
                color: LineChart.colors[bar.name.hasPrefix("ours") ? 0 : bar.name.hasPrefix("limit") ? 1 : 7])
            sheet.text(Decimals.text(bar.value), left + scale.place(bar.value) * width + 6, top + 14)
        }
        return sheet.text
    }
}
