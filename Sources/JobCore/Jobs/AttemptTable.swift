/// The lines of an ``AttemptJournal``: which are taken, by whom, and which are free. A pure value.
struct AttemptTable {
    /// A key of 200 characters, two numbers of 20, the words between and the line's end.
    static let lineLength = 256
    /// More attempts than are under way at once anywhere; the rest of such a file was not written by us.
    static let largestSize = lineLength << 20

    private struct Row {
        var place: Int
        /// nil while its line is being written for the first time.
        var attempt: AttemptJournal.Unfinished?
    }

    private var rows: [AttemptJournal.Key: Row] = [:]
    private var freePlaces: [Int] = []
    /// The number of lines.
    private var count = 0

    /// - Returns: the table, and the beginnings of the lines that cannot be understood, made fit to be shown.
    static func reading(_ contents: [UInt8]) -> (table: Self, damaged: [String]) {
        var table = Self()
        var damaged: [String] = []
        for start in stride(from: 0, through: contents.count - lineLength, by: lineLength) {
            let bytes = contents[start..<start + lineLength]
            // A file that was taken away and made anew has holes before the line that was written first.
            if bytes.elementsEqual(blank) || bytes.allSatisfy({ $0 == 0 }) { continue }
            let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
            // Written anew and compared, so that nothing is accepted that was not written by us.
            if words.count > 4, let key = AttemptJournal.Key(String(words[0])), let job = UInt64(words[2]),
                let number = Int(words[4]),
                bytes.elementsEqual(line(AttemptJournal.Unfinished(job: JobID(job), number: number), of: key))
            {
                table.note(AttemptJournal.Unfinished(job: JobID(job), number: number), of: key)
            } else {
                damaged.append(OneLine.escaping(String(decoding: bytes.prefix(80), as: UTF8.self)))
            }
        }
        return (table, damaged)
    }

    /// A line that tells of nothing.
    static let blank = [UInt8](repeating: UInt8(ascii: " "), count: lineLength - 1) + [UInt8(ascii: "\n")]

    static func line(_ attempt: AttemptJournal.Unfinished, of key: AttemptJournal.Key) -> [UInt8] {
        var line = blank
        let text = "\(key) job \(attempt.job) attempt \(attempt.number) "
        line.replaceSubrange(0..<text.utf8.count, with: text.utf8)
        return line
    }

    /// The contents of a file with nothing but what is noted, whose lines become the first ones.
    mutating func packed() -> String {
        var contents: [UInt8] = []
        for (place, key) in rows.keys.sorted(by: { $0.description < $1.description }).enumerated() {
            guard let attempt = rows[key]?.attempt else { continue }
            rows[key]?.place = place
            contents += Self.line(attempt, of: key)
        }
        (freePlaces, count) = ([], rows.count)
        return String(decoding: contents, as: UTF8.self)
    }

    subscript(key: AttemptJournal.Key) -> AttemptJournal.Unfinished? { rows[key]?.attempt }

    func place(of key: AttemptJournal.Key) -> Int? { rows[key]?.place }

    /// A line for a subject.
    /// - Returns: the line's number from 0 on, and whether the subject had none before.
    mutating func reserve(_ key: AttemptJournal.Key) -> (place: Int, isNew: Bool) {
        if let row = rows[key] { return (row.place, false) }
        let place = freePlaces.popLast() ?? count
        count = max(count, place + 1)
        rows[key] = Row(place: place)
        return (place, true)
    }

    mutating func note(_ attempt: AttemptJournal.Unfinished, of key: AttemptJournal.Key) {
        _ = reserve(key)
        rows[key]?.attempt = attempt
    }

    mutating func free(_ key: AttemptJournal.Key) {
        if let row = rows.removeValue(forKey: key) { freePlaces.append(row.place) }
    }
}
