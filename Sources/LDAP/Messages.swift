import CLDAP
import Glibc

/// One message of the server (RFC 4511, section 4.1.1), copied from the library's memory.
enum Message: Hashable, Sendable {
    case entry(Entry, controls: [Control])
    case reference([String])
    case intermediate(identifier: String?, value: [UInt8]?)
    case result(Outcome)
}

/// The last message of an operation (RFC 4511, section 4.1.9).
struct Outcome: Hashable, Sendable {
    var code: ResultCode
    var matchedDN = ""
    var diagnostic = ""
    var referrals: [String] = []
    var controls: [Control] = []
    /// The name of an extended response (RFC 4511, section 4.12).
    var identifier: String?
    var value: [UInt8]?
}

/// All messages of an operation that has ended.
struct Response: Hashable, Sendable {
    var entries: [Entry] = []
    var references: [String] = []
    var outcome = Outcome(code: .success)
}

// MARK: - Receiving

extension LDAPHandle {
    /// The next message that is complete, and its id, 0 for notices of the server; nil when none is complete.
    ///
    /// Asking for one id after the other would be slow, and would delay messages: the library keeps messages that it reads while it is asked for
    /// another id, and no descriptor reports them. Asking for all messages of an operation at once would never return those of a persistent search.
    /// - Throws: always an error with `isConnectionLost`.
    func receive() throws(LDAPError) -> (id: Int32, message: Message)? {
        var message: OpaquePointer?
        var noTime = timeval()
        let kind = unsafe ldap_result(pointer, LDAP_RES_ANY, LDAP_MSG_ONE, &noTime, &message)
        guard kind != 0 else { return nil }
        return unsafe try take(message, kind)
    }

    /// Waits for the result of an operation.
    /// - Throws: always an error with `isConnectionLost`.
    func result(of messageID: Int32) throws(LDAPError) -> Outcome {
        while true {
            var message: OpaquePointer?
            let kind = unsafe ldap_result(pointer, messageID, LDAP_MSG_ONE, nil, &message)
            if case .result(let outcome) = unsafe try take(message, kind).message { return outcome }
        }
    }

    private func take(_ message: OpaquePointer?, _ kind: Int32) throws(LDAPError) -> (id: Int32, message: Message) {
        guard kind > 0, let message = unsafe message else { throw lost(lastCode, lastDiagnostic) }
        defer { unsafe ldap_msgfree(message) }
        let id = unsafe ldap_msgid(message)
        switch ber_tag_t(kind) {
        case LDAP_RES_SEARCH_ENTRY: return (id, unsafe try entry(message))
        case LDAP_RES_SEARCH_REFERENCE: return (id, unsafe try reference(message))
        case LDAP_RES_INTERMEDIATE: return (id, unsafe try intermediate(message))
        default: return (id, .result(unsafe try outcome(message, isExtended: ber_tag_t(kind) == LDAP_RES_EXTENDED)))
        }
    }

    /// An error that ends the connection.
    func lost(_ code: ResultCode, _ diagnostic: String) -> LDAPError {
        LDAPError(
            code == .success ? .serverDown : code, operation: "read", server: "\(server)",
            diagnostic: diagnostic.isEmpty && code == .serverDown ? "the connection was closed" : diagnostic,
            isConnectionLost: true)
    }

    private func malformed(_ what: String) -> LDAPError {
        lost(.decodingError, "the server sent \(what) that cannot be decoded")
    }

    private func entry(_ message: OpaquePointer) throws(LDAPError) -> Message {
        // First the controls: reading the values writes NULs into the message, the last one over the first byte of the controls.
        var controls: UnsafeMutablePointer<UnsafeMutablePointer<LDAPControl>?>?
        guard unsafe ldap_get_entry_controls(pointer, message, &controls) == LDAP_SUCCESS else {
            throw malformed("a control of an entry")
        }
        let taken = unsafe take(controls)
        var reader: OpaquePointer?
        var name = unsafe berval()
        guard unsafe ldap_get_dn_ber(pointer, message, &reader, &name) == LDAP_SUCCESS, let reader = unsafe reader
        else {
            throw malformed("an entry")
        }
        defer { unsafe ber_free(reader, 0) }
        var entry = Entry(dn: unsafe try dn(Self.bytes(name)))
        // As many as a usual entry has.
        entry.attributes.reserveCapacity(16)
        while true {
            var type = unsafe berval()
            var values: UnsafeMutablePointer<berval>?
            guard unsafe ldap_get_attribute_ber(pointer, message, reader, &type, &values) == LDAP_SUCCESS else {
                throw malformed("an attribute of \(entry.dn)")
            }
            defer { unsafe ber_memfree(values) }
            guard unsafe type.bv_val != nil else { break }
            guard let spelling = unsafe Self.text(type) else {
                throw malformed("an attribute of \(entry.dn)")
            }
            var attribute = Attribute(AttributeName(unchecked: spelling), [])
            var next = unsafe values
            while let value = unsafe next?.pointee, unsafe value.bv_val != nil {
                attribute.values.append(AttributeValue(bytes: unsafe Self.bytes(value)))
                unsafe next = unsafe next?.successor()
            }
            entry.attributes.append(attribute)
        }
        return .entry(entry, controls: taken)
    }

    private func dn(_ bytes: [UInt8]) throws(LDAPError) -> DN {
        do {
            return try DN(parsing: String(decoding: bytes, as: UTF8.self))
        } catch {
            throw lost(.decodingError, "the server sent an entry whose name is not a DN: \(error)")
        }
    }

    private func reference(_ message: OpaquePointer) throws(LDAPError) -> Message {
        var uris: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
        guard unsafe ldap_parse_reference(pointer, message, &uris, nil, 0) == LDAP_SUCCESS else {
            throw malformed("a reference")
        }
        return .reference(unsafe take(uris))
    }

    private func intermediate(_ message: OpaquePointer) throws(LDAPError) -> Message {
        var identifier: UnsafeMutablePointer<CChar>?
        var value: UnsafeMutablePointer<berval>?
        guard unsafe ldap_parse_intermediate(pointer, message, &identifier, &value, nil, 0) == LDAP_SUCCESS else {
            throw malformed("an intermediate response")
        }
        return .intermediate(identifier: unsafe take(identifier), value: unsafe take(value))
    }

    private func outcome(_ message: OpaquePointer, isExtended: Bool) throws(LDAPError) -> Outcome {
        var code: Int32 = 0
        var matched: UnsafeMutablePointer<CChar>?
        var text: UnsafeMutablePointer<CChar>?
        var uris: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
        var controls: UnsafeMutablePointer<UnsafeMutablePointer<LDAPControl>?>?
        let parsed = unsafe ldap_parse_result(pointer, message, &code, &matched, &text, &uris, &controls, 0)
        guard parsed == LDAP_SUCCESS else { throw malformed("a result") }
        var outcome = Outcome(code: ResultCode(rawValue: code))
        outcome.matchedDN = unsafe takeText(matched)
        outcome.diagnostic = unsafe takeText(text)
        outcome.referrals = unsafe take(uris)
        outcome.controls = unsafe take(controls)
        guard isExtended else { return outcome }
        var identifier: UnsafeMutablePointer<CChar>?
        var value: UnsafeMutablePointer<berval>?
        guard unsafe ldap_parse_extended_result(pointer, message, &identifier, &value, 0) == LDAP_SUCCESS else {
            throw malformed("an extended result")
        }
        outcome.identifier = unsafe take(identifier)
        outcome.value = unsafe take(value)
        return outcome
    }

    /// - Returns: nil for bytes that are not valid UTF-8.
    private static func text(_ value: berval) -> String? {
        guard let start = unsafe UnsafeRawPointer(value.bv_val) else { return "" }
        let bytes = unsafe UnsafeRawBufferPointer(start: start, count: Int(value.bv_len))
        return unsafe String(utf8: bytes.assumingMemoryBound(to: UInt8.self).span)
    }

    private static func bytes(_ value: berval) -> [UInt8] {
        guard let start = unsafe value.bv_val else { return [] }
        return unsafe Array(UnsafeRawBufferPointer(start: start, count: Int(value.bv_len)))
    }

    private func take(_ text: UnsafeMutablePointer<CChar>?) -> String? {
        unsafe text == nil ? nil : unsafe takeText(text)
    }

    private func take(_ value: UnsafeMutablePointer<berval>?) -> [UInt8]? {
        guard let value = unsafe value else { return nil }
        defer { unsafe ber_bvfree(value) }
        return unsafe Self.bytes(value.pointee)
    }

    private func take(_ texts: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> [String] {
        guard let texts = unsafe texts else { return [] }
        defer {
            unsafe ber_memvfree(UnsafeMutableRawPointer(texts).assumingMemoryBound(to: UnsafeMutableRawPointer?.self))
        }
        var result: [String] = []
        var next = unsafe texts
        while let text = unsafe next.pointee {
            result.append(unsafe String(cString: text))
            unsafe next += 1
        }
        return result
    }

    private func take(_ controls: UnsafeMutablePointer<UnsafeMutablePointer<LDAPControl>?>?) -> [Control] {
        guard let controls = unsafe controls else { return [] }
        defer { unsafe ldap_controls_free(controls) }
        var result: [Control] = []
        var next = unsafe controls
        while let control = unsafe next.pointee?.pointee {
            let hasValue = unsafe control.ldctl_value.bv_val != nil
            result.append(
                Control(
                    unsafe String(cString: control.ldctl_oid),
                    isCritical: unsafe control.ldctl_iscritical != 0,
                    value: hasValue ? unsafe Self.bytes(control.ldctl_value) : nil))
            unsafe next += 1
        }
        return result
    }
}
