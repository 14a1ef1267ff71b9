/// Reads the string form of filters (RFC 4515, section 3).
struct FilterParser {
    private let text: String
    private let bytes: [UInt8]
    private var place = 0

    init(_ text: String) {
        self.text = text
        bytes = Array(text.utf8)
    }

    mutating func wholeFilter() throws(FilterSyntaxError) -> Filter {
        skipSpaces()
        let filter = try filter(depth: 1)
        skipSpaces()
        guard next == nil else {
            throw error("there is more after the filter's end", cure: "join filters as (&(…)(…)) or (|(…)(…))")
        }
        return filter
    }

    private var next: UInt8? { place < bytes.count ? bytes[place] : nil }

    private mutating func filter(depth: Int) throws(FilterSyntaxError) -> Filter {
        guard next == UInt8(ascii: "(") else {
            throw error("a filter must begin with \"(\"", cure: "write (name=value)")
        }
        guard depth <= Filter.maximumDepth else {
            throw error(
                "filters are nested deeper than \(Filter.maximumDepth)",
                cure: "write lists as (&(…)(…)(…)) instead of pairs within pairs")
        }
        place += 1
        skipSpaces()
        let result: Filter
        switch next {
        case UInt8(ascii: "&"):
            result = .and(try list(depth: depth))
        case UInt8(ascii: "|"):
            result = .or(try list(depth: depth))
        case UInt8(ascii: "!"):
            place += 1
            skipSpaces()
            result = .not(try filter(depth: depth + 1))
            skipSpaces()
        default:
            result = try item()
        }
        guard next == UInt8(ascii: ")") else {
            throw error(
                "\")\" is missing", cure: "close each \"(\"; write parentheses within a value as \"\\28\" and \"\\29\"")
        }
        place += 1
        return result
    }

    private mutating func list(depth: Int) throws(FilterSyntaxError) -> [Filter] {
        place += 1
        skipSpaces()
        var filters: [Filter] = []
        while next == UInt8(ascii: "(") {
            filters.append(try filter(depth: depth + 1))
            skipSpaces()
        }
        return filters
    }

    private mutating func item() throws(FilterSyntaxError) -> Filter {
        let start = place
        let spelling = token()
        let mark = next
        if mark == UInt8(ascii: ":") { return try extensible(spelling, at: start) }
        let name = try attributeName(spelling, at: start)
        if mark == UInt8(ascii: "=") {
            place += 1
            return equalityOrSubstrings(name, try pieces(mayBeEmptyBetween: false))
        }
        guard let mark, "~<>".utf8.contains(mark), place + 1 < bytes.count, bytes[place + 1] == UInt8(ascii: "=") else {
            throw error("a comparison is missing after \(name)", cure: "write one of = ~= <= >= :=")
        }
        place += 2
        let value = try singleValue()
        return switch mark {
        case UInt8(ascii: "~"): .approximately(name, value)
        case UInt8(ascii: "<"): .lessOrEqual(name, value)
        default: .greaterOrEqual(name, value)
        }
    }

    private func equalityOrSubstrings(_ name: AttributeName, _ pieces: [[UInt8]]) -> Filter {
        let values = pieces.map { AttributeValue(bytes: $0) }
        guard let first = values.first, let last = values.last, values.count > 1 else {
            return .equal(name, values.first ?? AttributeValue(""))
        }
        let any = Array(values.dropFirst().dropLast())
        if any.isEmpty, first.bytes.isEmpty, last.bytes.isEmpty { return .present(name) }
        return .substrings(
            name, initial: first.bytes.isEmpty ? nil : first, any: any, final: last.bytes.isEmpty ? nil : last)
    }

    /// `[attribute] [":dn"] [":" rule] ":=" value`; the place is at the first colon.
    private mutating func extensible(_ spelling: String, at start: Int) throws(FilterSyntaxError) -> Filter {
        let attribute = spelling.isEmpty ? nil : try attributeName(spelling, at: start)
        var dnAttributes = false
        var rule: String?
        while next == UInt8(ascii: ":") {
            place += 1
            if next == UInt8(ascii: "=") {
                place += 1
                guard attribute != nil || rule != nil else {
                    throw error("neither attribute nor matching rule", cure: "write (name:=value) or (:rule:=value)")
                }
                return .extensible(
                    attribute: attribute, rule: rule, dnAttributes: dnAttributes, value: try singleValue())
            }
            let partStart = place
            let part = token()
            if !dnAttributes, rule == nil, part.lowercased() == "dn" {
                dnAttributes = true
            } else if rule == nil {
                let name = try attributeName(part, at: partStart)
                guard !name.hasOptions else { throw error("a matching rule has no options", cure: "leave them out") }
                rule = part
            } else {
                break
            }
        }
        throw error("\":=\" is missing", cure: "write (name:dn:rule:=value)")
    }

    /// What stands before the next mark of the grammar.
    private mutating func token() -> String {
        let start = place
        while let byte = next, !"=~<>:()*\\".utf8.contains(byte) { place += 1 }
        return String(decoding: bytes[start..<place], as: UTF8.self)
    }

    private func attributeName(_ spelling: String, at start: Int) throws(FilterSyntaxError) -> AttributeName {
        do throws(AttributeName.Invalid) {
            return try AttributeName(parsing: spelling)
        } catch {
            throw self.error(
                "\(spelling.quotedForMessage) is not an attribute name", cure: AttributeName.Invalid.cure, at: start)
        }
    }

    private mutating func singleValue() throws(FilterSyntaxError) -> AttributeValue {
        let start = place
        let pieces = try pieces(mayBeEmptyBetween: true)
        guard pieces.count == 1 else {
            throw error("\"*\" may not stand in this comparison's value", cure: "write it as \"\\2a\"", at: start)
        }
        return AttributeValue(bytes: pieces[0])
    }

    /// A value's pieces between the asterisks, one at least; ends at the closing parenthesis.
    private mutating func pieces(mayBeEmptyBetween: Bool) throws(FilterSyntaxError) -> [[UInt8]] {
        var pieces: [[UInt8]] = [[]]
        while let byte = next, byte != UInt8(ascii: ")") {
            switch byte {
            case UInt8(ascii: "*"):
                if !mayBeEmptyBetween, pieces.count > 1, pieces[pieces.count - 1].isEmpty {
                    throw error(
                        "two asterisks without text between them", cure: "write one, or \"\\2a\" for the character")
                }
                pieces.append([])
                place += 1
            case UInt8(ascii: "\\"):
                pieces[pieces.count - 1].append(try escape())
            case UInt8(ascii: "("), 0:
                throw error(
                    "\(byte == 0 ? "a NUL character" : "\"(\"") may not stand in a value",
                    cure: "write it as \"\(byte == 0 ? "\\00" : "\\28")\"")
            default:
                pieces[pieces.count - 1].append(byte)
                place += 1
            }
        }
        return pieces
    }

    private mutating func escape() throws(FilterSyntaxError) -> UInt8 {
        guard place + 2 < bytes.count, let high = bytes[place + 1].hexDigitValue,
            let low = bytes[place + 2].hexDigitValue
        else {
            throw error("after a backslash there must be two hexadecimal digits", cure: "write a backslash as \"\\5c\"")
        }
        place += 3
        return high << 4 | low
    }

    private mutating func skipSpaces() {
        while let byte = next, byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\t") {
            place += 1
        }
    }

    private func error(_ reason: String, cure: String, at offset: Int? = nil) -> FilterSyntaxError {
        FilterSyntaxError(
            text: text, position: text.scalarPosition(ofByte: offset ?? place), reason: reason, cure: cure)
    }
}
