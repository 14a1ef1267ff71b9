import LDAP

/// The records and errors of a file, in their order.
typealias LDIFOutcome = Result<LDIFRecord, LDAPSyntaxError>

/// Reads a whole file in pieces of so many bytes, draining the parser after each.
func readLDIF(
    _ bytes: some Sequence<UInt8>, pieces: Int = .max, limit: Int = 64 << 20,
    urlContents: LDIFParser.URLContents? = nil
) -> [LDIFOutcome] {
    var parser = LDIFParser(source: "test.ldif", limit: limit, urlContents: urlContents)
    var outcomes: [LDIFOutcome] = []
    func drain() {
        while true {
            do throws(LDAPSyntaxError) {
                guard let record = try parser.next() else { return }
                outcomes.append(.success(record))
            } catch {
                outcomes.append(.failure(error))
            }
        }
    }
    var rest = Array(bytes)[...]
    while !rest.isEmpty {
        parser.append(rest.prefix(pieces))
        rest = rest.dropFirst(pieces)
        drain()
    }
    parser.finish()
    drain()
    return outcomes
}

/// The records of a text without errors.
func records(_ text: String, urlContents: LDIFParser.URLContents? = nil) throws
    -> [LDIFRecord]
{
    try readLDIF(text.utf8, urlContents: urlContents).map { try $0.get() }
}
