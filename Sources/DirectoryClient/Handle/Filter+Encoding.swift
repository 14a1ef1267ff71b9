import CLDAP
public import DirectoryModel

extension Filter {
    /// Reads a filter that a user wrote.
    /// - Returns: nil when libldap would not send it, or when it has no parentheses and so could not be part of another one.
    public init?(parsing text: String) {
        self.init(unchecked: text)
        guard text.hasPrefix("("), encoded != nil else { return nil }
    }

    /// The filter as the protocol has it (RFC 4511, section 4.5.1.7), which is the value of an assertion control; nil when it is malformed.
    var encoded: [UInt8]? {
        var arena = CArena()
        guard LDAPLibrary.isReady, let text = unsafe try? arena.string(description) else { return nil }
        var handle: OpaquePointer?
        guard unsafe ldap_create(&handle) == LDAP_SUCCESS, let handle = unsafe handle else { return nil }
        defer { unsafe ldap_destroy(handle) }
        var value = unsafe berval()
        guard unsafe ldap_create_assertion_control_value(handle, text, &value) == LDAP_SUCCESS else {
            return nil
        }
        defer { unsafe ber_memfree(value.bv_val) }
        return unsafe [UInt8](UnsafeRawBufferPointer(start: value.bv_val, count: Int(value.bv_len)))
    }
}
