import Daemon
import JobCore

/// Rows of text under headings, each column as wide as it must be.
struct TextTable {
    private let headings: [String]
    private var widths: [Int]

    /// - Parameters:
    ///   - headings: of the columns; the last column is never padded.
    ///   - widths: the least width of each column, for rows that come later.
    init(_ headings: [String], widths: [Int] = []) {
        self.headings = headings
        self.widths = headings.enumerated().map { place, heading in
            max(heading.count, place < widths.count ? widths[place] : 0)
        }
    }

    /// The headings and the rows as lines. Columns stay as wide for rows that come later.
    mutating func lines(_ rows: [[String]]) -> [String] {
        let rows = rows.map { $0.map(OneLine.escaping) }
        for row in rows {
            for (place, cell) in row.enumerated() where place < widths.count {
                widths[place] = max(widths[place], cell.count)
            }
        }
        return ([headings] + rows).map(line)
    }

    /// One more row, in columns as they are.
    func line(_ row: [String]) -> String {
        var line = ""
        for (place, cell) in row.map(OneLine.escaping).enumerated() {
            line += cell
            guard place + 1 < row.count else { break }
            line += String(repeating: " ", count: max(0, widths[place] - cell.count) + 2)
        }
        return String(line.reversed().drop { $0 == " " }.reversed())
    }
}
