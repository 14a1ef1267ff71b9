/// One of the five fields of a schedule in cron notation: its range, its names, and how its text becomes a set of values.
struct CronField: Sendable {
    let name: String
    let range: ClosedRange<Int>
    /// Three letters each; the first of them stands for `firstNamed`.
    let names: [String]
    let firstNamed: Int

    static let minute = CronField("minute", 0...59)
    static let hour = CronField("hour", 0...23)
    static let dayOfMonth = CronField("day of month", 1...31)
    static let month = CronField(
        "month", 1...12,
        names: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], from: 1)
    /// 7 is Sunday as well, and becomes 0.
    static let dayOfWeek = CronField(
        "day of week", 0...7, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"], from: 0)
    /// In the order in which they are written.
    static let all = [minute, hour, dayOfMonth, month, dayOfWeek]

    private init(_ name: String, _ range: ClosedRange<Int>, names: [String] = [], from firstNamed: Int = 0) {
        self.name = name
        self.range = range
        self.names = names
        self.firstNamed = firstNamed
    }

    /// The values that a field's text means.
    struct Values: Hashable, Sendable {
        /// Bit `n` for the value `n`.
        fileprivate(set) var bits: UInt64 = 0
        /// Whether the text has no `*`: of two restricted fields for the day either one is enough.
        let isRestricted: Bool

        func contains(_ value: Int) -> Bool { bits & (1 << UInt64(value)) != 0 }

        var count: Int { bits.nonzeroBitCount }

        /// In rising order.
        var sorted: [Int] { (0..<64).filter { contains($0) } }
    }

    /// Reads the field's text: `*`, values, ranges and lists of them, with steps.
    ///
    /// - Parameter position: of the text's first character in the whole schedule, counted from 1.
    func values(of text: Substring, at position: Int) throws(CronSyntaxError) -> Values {
        var values = Values(isRestricted: !text.contains("*"))
        var reader = Reader(field: self, rest: text, position: position)
        repeat {
            let element = try reader.element()
            for value in stride(from: element.range.lowerBound, through: element.range.upperBound, by: element.step) {
                // 7 as a day of the week is 0.
                values.bits |= 1 << UInt64(range.upperBound == 7 ? value % 7 : value)
            }
        } while try reader.comma()
        return values
    }
}

extension CronField {
    /// Goes through a field's text from left to right.
    private struct Reader {
        let field: CronField
        var rest: Substring
        var position: Int

        mutating func element() throws(CronSyntaxError) -> (range: ClosedRange<Int>, step: Int) {
            let start = position
            if take("*") {
                // A week has seven days, though the last of them has two numbers.
                let whole = field.range.upperBound == 7 ? 0...6 : field.range
                return (whole, try step(in: whole, isRange: true))
            }
            let first = try value()
            guard take("-") else { return (first.number...first.number, try step(in: field.range, isRange: false)) }
            var last = try value()
            // As the end of a range Sunday follows Saturday.
            if field.range.upperBound == 7, last.number == 0, first.number > 0 { last.number = 7 }
            guard first.number <= last.number else {
                throw fault(
                    at: start, "the range goes backwards",
                    hint: """
                        write two ranges, such as \(first.text)-\(field.text(field.range.upperBound)),\
                        \(field.text(field.range.lowerBound))-\(last.text)
                        """)
            }
            return (first.number...last.number, try step(in: first.number...last.number, isRange: true))
        }

        /// - Returns: whether another element follows.
        mutating func comma() throws(CronSyntaxError) -> Bool {
            if rest.isEmpty { return false }
            let start = position
            guard take(",") else {
                throw fault(
                    at: start, "\(rest.prefix(1)) cannot stand here",
                    hint: "write *, \(field.range.lowerBound), \(field.example), or a list of these split by commas")
            }
            return true
        }

        private mutating func step(in range: ClosedRange<Int>, isRange: Bool) throws(CronSyntaxError) -> Int {
            let start = position
            guard take("/") else { return 1 }
            guard isRange else {
                throw fault(
                    at: start, "a step needs a range before it",
                    hint: "write */N for all, or FIRST-\(range.upperBound)/N")
            }
            let digits = word { $0.isASCII && $0.isNumber }
            guard let step = Int(digits), (1...range.count).contains(step) else {
                throw fault(
                    at: start + 1, digits.isEmpty ? "no step is given" : "\(digits) is no step within this range",
                    hint: "write a number from 1 to \(range.count)")
            }
            return step
        }

        private mutating func value() throws(CronSyntaxError) -> (number: Int, text: String) {
            let start = position
            let word = word { $0.isASCII && ($0.isLetter || $0.isNumber) }
            if let index = field.names.firstIndex(of: word.lowercased()) { return (index + field.firstNamed, word) }
            guard let number = Int(word), field.range.contains(number) else {
                let names =
                    field.names.isEmpty ? "" : ", or \(field.names[0]) to \(field.names[field.names.count - 1])"
                throw fault(
                    at: start, word.isEmpty ? "a value is missing" : "there is no \(field.name) \(word)",
                    hint: "write * or a number from \(field.range.lowerBound) to \(field.range.upperBound)\(names)")
            }
            return (number, word)
        }

        private mutating func word(_ belongs: (Character) -> Bool) -> String {
            let word = rest.prefix(while: belongs)
            rest = rest.dropFirst(word.count)
            position += word.count
            return String(word)
        }

        private mutating func take(_ character: Character) -> Bool {
            guard rest.first == character else { return false }
            rest = rest.dropFirst()
            position += 1
            return true
        }

        private func fault(at position: Int, _ reason: String, hint: String) -> CronSyntaxError {
            CronSyntaxError(field: field.name, position: position, reason: reason, hint: hint)
        }
    }

    private var example: String { "\(range.lowerBound)-\(range.upperBound)" }

    private func text(_ number: Int) -> String { range.upperBound == 7 && number == 7 ? "6" : "\(number)" }
}
