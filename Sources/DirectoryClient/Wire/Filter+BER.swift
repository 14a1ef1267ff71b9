import DirectoryModel

extension Filter {
    /// The filter as the protocol has it (RFC 4511, section 4.5.1.7), for the value of the assertion control.
    var encoded: [UInt8] {
        switch self {
        case .and(let filters): BER.element(BER.context(0, constructed: true), filters.flatMap(\.encoded))
        case .or(let filters): BER.element(BER.context(1, constructed: true), filters.flatMap(\.encoded))
        case .not(let filter): BER.element(BER.context(2, constructed: true), filter.encoded)
        case .equal(let name, let value): Self.assertion(3, name, value)
        case .substrings(let name, let initial, let any, let final):
            BER.element(
                BER.context(4, constructed: true),
                BER.element(BER.octets, name.spelling)
                    + BER.element(
                        BER.sequence,
                        (initial.map { BER.element(BER.context(0), $0.bytes) } ?? [])
                            + any.flatMap { BER.element(BER.context(1), $0.bytes) }
                            + (final.map { BER.element(BER.context(2), $0.bytes) } ?? [])))
        case .greaterOrEqual(let name, let value): Self.assertion(5, name, value)
        case .lessOrEqual(let name, let value): Self.assertion(6, name, value)
        case .present(let name): BER.element(BER.context(7), name.spelling)
        case .approximately(let name, let value): Self.assertion(8, name, value)
        case .extensible(let name, let rule, let dnAttributes, let value):
            BER.element(
                BER.context(9, constructed: true),
                (rule.map { BER.element(BER.context(1), $0) } ?? [])
                    + (name.map { BER.element(BER.context(2), $0.spelling) } ?? [])
                    + BER.element(BER.context(3), value.bytes)
                    + (dnAttributes ? BER.flag(BER.context(4), true) : []))
        }
    }

    private static func assertion(_ number: UInt8, _ name: AttributeName, _ value: AttributeValue) -> [UInt8] {
        BER.element(
            BER.context(number, constructed: true),
            BER.element(BER.octets, name.spelling) + BER.element(BER.octets, value.bytes))
    }
}
