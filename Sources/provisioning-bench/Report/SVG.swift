/// Draws on a sheet of SVG. Everything is in pixels from the upper left corner.
struct SVG {
    let width: Int
    let height: Int
    private var elements: [String] = []

    init(width: Int, height: Int) {
        self.width = width
        self.height = height
    }

    enum Anchor: String { case start, middle, end }

    mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, color: String = "#999") {
        elements.append(
            "<line x1=\"\(Self.n(x1))\" y1=\"\(Self.n(y1))\" x2=\"\(Self.n(x2))\" y2=\"\(Self.n(y2))\" stroke=\"\(color)\"/>"
        )
    }

    mutating func path(_ points: [(Double, Double)], color: String) {
        let text = points.map { "\(Self.n($0.0)),\(Self.n($0.1))" }.joined(separator: " ")
        elements.append("<polyline points=\"\(text)\" fill=\"none\" stroke=\"\(color)\" stroke-width=\"2\"/>")
    }

    mutating func dot(_ x: Double, _ y: Double, color: String) {
        elements.append("<circle cx=\"\(Self.n(x))\" cy=\"\(Self.n(y))\" r=\"3\" fill=\"\(color)\"/>")
    }

    mutating func bar(_ x: Double, _ y: Double, _ width: Double, _ height: Double, color: String) {
        elements.append(
            "<rect x=\"\(Self.n(x))\" y=\"\(Self.n(y))\" width=\"\(Self.n(width))\" height=\"\(Self.n(height))\" fill=\"\(color)\"/>"
        )
    }

    mutating func text(_ text: String, _ x: Double, _ y: Double, anchor: Anchor = .start, size: Int = 12) {
        elements.append(
            "<text x=\"\(Self.n(x))\" y=\"\(Self.n(y))\" text-anchor=\"\(anchor.rawValue)\" font-size=\"\(size)\">\(Self.escape(text))</text>"
        )
    }

    /// The whole file.
    var text: String {
        """
        <svg xmlns="http://www.w3.org/2000/svg" width="\(width)" height="\(height)" viewBox="0 0 \(width) \(height)" \
        font-family="sans-serif">
        <rect width="\(width)" height="\(height)" fill="white"/>
        \(elements.joined(separator: "\n"))
        </svg>

        """
    }

    private static func n(_ number: Double) -> String { Decimals.fixed(number, 1) }

    private static func escape(_ text: String) -> String {
        text.reduce(into: "") { text, character in
            switch character {
            case "&": text += "&amp;"
            case "<": text += "&lt;"
            case ">": text += "&gt;"
            default: text.append(character)
            }
        }
    }
}
