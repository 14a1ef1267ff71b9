// How the values of the core stand in the columns of the history and in JSON.

extension JobType: Codable {}
extension JobResult: Codable {}
extension FailureClass: Codable {}
extension ScriptStatus: Codable {}
extension ReportLine.Source: Codable {}

extension JobID: Codable {
    /// A number.
    public init(from decoder: any Decoder) throws {
        self.init(try decoder.singleValueContainer().decode(UInt64.self))
    }

    /// A number.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(number)
    }

    /// As it stands in the history's columns.
    var column: Int64 { Int64(clamping: number) }

    init(column: Int64) { self.init(UInt64(clamping: column)) }
}

extension JobStatus: Codable {
    /// - Returns: nil for a text that is none of the letters.
    public init?(letter: String) {
        guard letter.count == 1, let first = letter.first else { return nil }
        self.init(rawValue: first)
    }

    /// The letter.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let status = Self(letter: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a letter of a job's status")
        }
        self = status
    }

    /// The letter.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(letter)
    }
}

extension WallTime: Codable {
    /// Microseconds since 1970.
    public init(from decoder: any Decoder) throws {
        self.init(microsecondsSince1970: try decoder.singleValueContainer().decode(Int64.self))
    }

    /// Microseconds since 1970.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(microsecondsSince1970)
    }

    /// What lies beyond the range becomes its end.
    init(microsecondsSince1970: Int64) {
        let (product, overflow) = microsecondsSince1970.multipliedReportingOverflow(by: 1_000)
        self.init(nanosecondsSince1970: !overflow ? product : microsecondsSince1970 < 0 ? .min : .max)
    }

    /// Rounded towards the past.
    var microsecondsSince1970: Int64 {
        let (quotient, remainder) = nanosecondsSince1970.quotientAndRemainder(dividingBy: 1_000)
        return remainder < 0 ? quotient - 1 : quotient
    }
}

extension Duration {
    /// Whole microseconds; what lies beyond the range becomes its end.
    var microseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000)
        guard !overflow else { return seconds < 0 ? .min : .max }
        let (sum, overflows) = product.addingReportingOverflow(attoseconds / 1_000_000_000_000)
        return overflows ? (seconds < 0 ? .min : .max) : sum
    }
}

extension ScriptResult.Cause: Codable {
    /// One of the three words of ``encode(to:)``.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let cause = Self(column: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a cause of a script's end")
        }
        self = cause
    }

    /// `itself`, `time limit` or `cancellation`.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(column)
    }

    init?(column: String) {
        switch column {
        case Self.itself.column: self = .itself
        case Self.timeLimit.column: self = .timeLimit
        case Self.cancellation.column: self = .cancellation
        default: return nil
        }
    }

    var column: String {
        switch self {
        case .itself: "itself"
        case .timeLimit: "time limit"
        case .cancellation: "cancellation"
        }
    }
}

extension CapturedOutput: Codable {
    private enum CodingKeys: String, CodingKey { case head, tail, dropped }

    /// The head and the tail are texts.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            head: Array(try container.decode(String.self, forKey: .head).utf8),
            tail: Array(try container.decode(String.self, forKey: .tail).utf8),
            dropped: try container.decode(Int.self, forKey: .dropped))
    }

    /// The head and the tail as texts; bytes that are none become U+FFFD.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(String(decoding: head, as: UTF8.self), forKey: .head)
        try container.encode(String(decoding: tail, as: UTF8.self), forKey: .tail)
        try container.encode(dropped, forKey: .dropped)
    }
}
