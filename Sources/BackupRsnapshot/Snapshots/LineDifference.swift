/// The difference of two texts, line by line, as a dry run shows it.
enum LineDifference {
    /// Every line with `-` (only before), `+` (only after) or a blank (kept); equal texts give the empty string.
    static func text(from old: String?, to new: String) -> String {
        guard old != new else { return "" }
        let before = lines(old ?? "")
        let after = lines(new)
        let difference = after.difference(from: before)
        let removed = Set(difference.removals.map(\.offset))
        let inserted = Set(difference.insertions.map(\.offset))

        var result: [String] = []
        var place = 0
        for (index, line) in after.enumerated() {
            while place < before.count, removed.contains(place) {
                result.append("-" + before[place])
                place += 1
            }
            if inserted.contains(index) {
                result.append("+" + line)
            } else {
                result.append(" " + line)
                place += 1
            }
        }
        result += before.indices.dropFirst(place).map { "-" + before[$0] }
        return result.joined(separator: "\n")
    }

    private static func lines(_ text: String) -> [String] {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        return lines
    }
}

extension CollectionDifference.Change {
    fileprivate var offset: Int {
        switch self {
        case .insert(let offset, _, _), .remove(let offset, _, _): offset
        }
    }
}
