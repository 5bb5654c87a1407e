{{/* What the service is told, and what the chart reckons from it. */}}

{{- define "inventory-refresh.configFolder" -}}/etc/inventory-refresh/config{{- end }}
{{- define "inventory-refresh.secretsFolder" -}}/etc/inventory-refresh/secrets{{- end }}
{{- define "inventory-refresh.caFolder" -}}/etc/inventory-refresh/ca{{- end }}

{{/* The settings file: .Values.config without what is empty, which counts as not given, and with the paths of the files
     that the chart mounts. What the user says of those wins. */}}
{{- define "inventory-refresh.settings" -}}
{{- $settings := dict -}}
{{- range $section, $options := mergeOverwrite (include "inventory-refresh.paths" . | fromYaml) (deepCopy .Values.config) -}}
{{- $given := dict -}}
{{- range $name, $value := $options -}}
{{- if not (or (kindIs "invalid" $value) (and (empty $value) (or (kindIs "string" $value) (kindIs "slice" $value) (kindIs "map" $value)))) -}}
{{- $_ := set $given $name $value -}}
{{- end -}}
{{- end -}}
{{- if $given -}}
{{- $_ := set $settings $section $given -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{/* Settings that name files which the chart mounts. */}}
{{- define "inventory-refresh.paths" -}}
{{- $paths := dict -}}
{{- if .Values.avroSchema -}}
{{- $_ := set $paths "avro" (dict "schema_file" (printf "%s/inventory-change.avsc" (include "inventory-refresh.configFolder" .))) -}}
{{- end -}}
{{- if include "inventory-refresh.hasCaBundle" . -}}
{{- $file := printf "%s/%s" (include "inventory-refresh.caFolder" .) .Values.caBundle.key -}}
{{- if has "kafka" .Values.caBundle.usedBy -}}
{{- $paths = merge $paths (dict "kafka" (dict "properties" (dict "ssl.ca.location" $file))) -}}
{{- end -}}
{{- if and (has "registry" .Values.caBundle.usedBy) .Values.config.avro.registry_url -}}
{{- $paths = merge $paths (dict "avro" (dict "registry" (dict "ssl.ca.location" $file))) -}}
{{- end -}}
{{- if has "oms" .Values.caBundle.usedBy -}}
{{- $paths = merge $paths (dict "oms" (dict "ca_file" $file)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $paths -}}
{{- end }}

{{- define "inventory-refresh.hasCaBundle" -}}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret -}}true{{- end -}}
{{- end }}

{{/* Seconds of a duration, which is a number of them or text such as 500ms, 90s, 5m, 1h. */}}
{{- define "inventory-refresh.seconds" -}}
{{- $text := toString . -}}
{{- $number := regexFind "[0-9.]+" $text | float64 -}}
{{- $unit := regexFind "[a-z]+" $text | default "s" -}}
{{- mulf $number (get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) $unit) -}}
{{- end }}

{{/* What is in flight may be waited for as long as kafka.revoke_timeout; after that come commit and closing. Killed
     before, the process would lose nothing, but the next one sends those requests again. */}}
{{- define "inventory-refresh.graceSeconds" -}}
{{- $revoke := include "inventory-refresh.seconds" .Values.config.kafka.revoke_timeout -}}
{{- add (ceil (float64 $revoke)) .Values.shutdownMarginSeconds -}}
{{- end }}

{{/* What the pods read at their start and the chart knows: with it they change, and with nothing else. */}}
{{- define "inventory-refresh.checksums" -}}
checksum/config: {{ printf "%s%s" (include "inventory-refresh.settings" .) .Values.avroSchema | sha256sum }}
checksum/secrets: {{ toJson .Values.secrets | sha256sum }}
{{- end }}
